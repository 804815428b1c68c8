// The line to the server.

import { alarm, run, said, shown } from "./state.js";

const AGAIN_MS = 1500;
const token = takeToken();
let socket = null;

// The token leaves the address: it is in no bookmark and no copied address. This tab keeps it, for when it is loaded again.
function takeToken() {
  const said = new URLSearchParams(location.hash.slice(1)).get("token");
  try {
    if (said === null) return sessionStorage.getItem("token") ?? "";
    sessionStorage.setItem("token", said);
    history.replaceState(null, "", location.pathname);
  } catch { /* a browser that keeps nothing: the address stays as it is */ }
  return said ?? "";
}

window.addEventListener("hashchange", () => location.reload()); // the address of another run, in the same tab

// Connects, and again whenever the line is cut; gives texts and pictures to whom they are for.
export function connect(hear, take) {
  socket = new WebSocket(`ws://${location.host}/pages`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    run.history.length = 0; // the server tells all of it, and the tails, anew
    shown.tails.clear();
    shown.step = 1;
    socket.send(JSON.stringify({ token }));
    said("line", "");
  };
  socket.onmessage = (event) => (typeof event.data === "string" ? hear(JSON.parse(event.data)) : take(event.data));
  socket.onclose = (event) => {
    if (run.over) return;
    if (event.code === 4401) return alarm("The token in the address is not this run's: open the address that the terminal shows.");
    said("line", "no connection", "bad");
    setTimeout(() => connect(hear, take), AGAIN_MS);
  };
}

// Returns whether it was sent.
export function tell(message) {
  if (socket?.readyState !== WebSocket.OPEN) {
    if (message.do) alarm(`NOT sent, there is no connection: ${message.do}. Ctrl-C in the terminal ends the run, and so does 'streamtrack stop'.`);
    return false;
  }
  socket.send(JSON.stringify(message));
  return true;
}
