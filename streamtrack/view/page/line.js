// The line to the server.

import { alarm, run, said } from "./state.js";

const AGAIN_MS = 1500;
const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
let socket = null;

// Connects, and again whenever the line is cut; gives texts and pictures to whom they are for.
export function connect(hear, take) {
  socket = new WebSocket(`ws://${location.host}/pages`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => { socket.send(JSON.stringify({ token })); said("line", ""); };
  socket.onmessage = (event) => (typeof event.data === "string" ? hear(JSON.parse(event.data)) : take(event.data));
  socket.onclose = (event) => {
    if (run.over) return;
    if (event.code === 4401) return alarm("The token in the address is not this run's: open the address that the terminal shows.");
    said("line", "no connection", "bad");
    setTimeout(() => connect(hear, take), AGAIN_MS);
  };
}

export function tell(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}
