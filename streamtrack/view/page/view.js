// Shows a run: what the server sends is drawn, nothing is kept. No library, nothing from elsewhere.

import { connect, tell } from "./line.js";
import { at, draw, grey, keepTails, nearest, under, zoomAt, column } from "./picture.js";
import { drag, hold, isHeld, letGo } from "./regions.js";
import { offerColumns, showChosen, showContrast, showState } from "./panels.js";
import { $, alarm, place, run, said, shown } from "./state.js";

// ---- what comes from the server

function hear(news) {
  if (news.over) return end(news.over);
  if (news.outcome?.error) return alarm(news.outcome.error);
  if (news.of?.do === "may_move") { $("may-move").textContent = news.outcome.done; return $("modes").show(); }
  if (news.outcome) { $("message").hidden = true; return; } // what was refused before is no news any more
  run.about = news.about;
  if (news.state.trouble) alarm(news.state.trouble);
  else if (run.state.trouble) $("message").hidden = true;
  run.state = news.state;
  run.history.push(...news.history);
  run.history.splice(0, run.history.length - 1200);
  showState(news.shown);
}

function end(how) {
  run.over = how;
  const lost = how.frames?.lost ? `, ${how.frames.lost} frames lost` : "";
  if (run.about.replay) { said("line", "closed", "bad"); return alarm("The view was closed in its terminal."); }
  alarm(`The run is over: ${how.status}${lost}${how.error ? `: ${how.error}` : ""}${how.folder ? `. Results in ${how.folder}` : ""}`);
  said("line", how.status, how.status === "completed" ? "" : "bad");
  $("stop").disabled = true;
}

function take(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let at = 4 + length;
  const parts = head.parts.map((size) => { const part = buffer.slice(at, at + size); at += size; return part; });
  const [places, ids, here, particles, values, ...images] = parts;
  if (head.anew) shown.tails.clear();
  keepTails(head.frames, new Float32Array(places), new Int32Array(ids));
  if (shown.frozen && (shown.picture?.step ?? 1) === 1) return; // zoomed into, it needs all of its px
  shown.picture = {
    ...head, here: new Float32Array(here), particles: new Int32Array(particles), values: new Float32Array(values),
  };
  shown.images = images.map((image) => grey(new Uint8Array(image), head.size));
  offerColumns(head.columns);
  showContrast(head.contrast);
  shown.dirty = true;
}

// ---- what a person does

function hover(event) {
  const i = nearest(event);
  if (i < 0) { $("hint").textContent = ""; return; }
  const { particles, here, found } = shown.picture;
  const score = column("score");
  $("hint").textContent = `track ${particles[i]}  x ${here[found + i].toFixed(1)}, y ${here[i].toFixed(1)} px${score ? `  score ${score[i].toFixed(2)}` : ""}`;
}

function listen() {
  const screen = $("screen");
  screen.addEventListener("wheel", (event) => { event.preventDefault(); zoomAt(event, event.deltaY < 0 ? 1.2 : 1 / 1.2); }, { passive: false });
  let held = null;
  screen.addEventListener("pointerdown", (event) => { screen.setPointerCapture(event.pointerId); if (shown.picture && $("regions").checked && hold(under(event))) return; held = { x: event.clientX, y: event.clientY, moved: false, ...at() }; });
  screen.addEventListener("pointermove", (event) => {
    if (isHeld()) return drag(under(event).px);
    if (!held || !shown.picture) return hover(event);
    const ratio = window.devicePixelRatio || 1;
    const [dx, dy] = [(event.clientX - held.x) * ratio, (event.clientY - held.y) * ratio];
    if (Math.hypot(dx, dy) > 4) held.moved = true;
    if (!held.moved) return;
    const room = screen.width / Math.max(1, shown.images.length);
    place.zoom = held.zoom;
    place.x = (room / 2 - held.left - dx) / held.zoom;
    place.y = (screen.height / 2 - held.top - dy) / held.zoom;
    shown.dirty = true;
  });
  screen.addEventListener("pointerup", (event) => {
    if (isHeld()) { const wish = letGo(); if (wish) tell(wish); return; }
    if (held && !held.moved) { const i = nearest(event); shown.chosen = i < 0 ? -1 : shown.picture.particles[i]; showChosen(); shown.dirty = true; }
    held = null;
  });
  screen.addEventListener("pointerleave", () => { $("hint").textContent = ""; });
  $("tools").addEventListener("submit", (event) => event.preventDefault());
  $("tools").addEventListener("input", () => { sliders(); shown.dirty = true; });
  $("denoised").addEventListener("change", (event) => tell({ show: { denoised: event.target.checked } }));
  $("stream").addEventListener("change", (event) => { shown.tails.clear(); tell({ show: { stream: Number(event.target.value) } }); });
  for (const id of ["black", "white"]) $(id).addEventListener("change", () => tell({ show: { contrast: [Number($("black").value), Number($("white").value)] } }));
  $("auto").addEventListener("click", () => tell({ show: { contrast: null } }));
  $("fit").addEventListener("click", fit);
  $("freeze").addEventListener("click", freeze);
  $("stop").addEventListener("click", stop);
  $("threshold").addEventListener("change", (event) => tell({ do: "threshold", value: Number(event.target.value) }));
  $("exposure").addEventListener("change", (event) => tell({ do: "exposure", value: Number(event.target.value) }));
  $("mode").addEventListener("click", () => tell({ do: "may_move" }));
  $("frame-wanted").addEventListener("input", (event) => go(Number(event.target.value)));
  $("play").addEventListener("click", play);
  $("snapshot").addEventListener("click", snapshot);
  $("record").addEventListener("click", () => tell({ do: "record", on: !run.state.recording }));
  $("disarm").addEventListener("click", () => tell({ do: "mode", mode: "rehearse" }));
  $("modes").addEventListener("click", (event) => {
    const mode = event.target.dataset?.mode;
    if (mode === undefined) return;
    $("modes").close();
    if (mode) tell({ do: "mode", mode, confirmed: $("may-move").textContent });
  });
  $("follow").addEventListener("click", () => tell({ do: "follow", particle: run.state.following === shown.chosen ? null : shown.chosen }));
  $("marking").addEventListener("submit", (event) => { event.preventDefault(); tell({ do: "mark", text: $("mark").value }); $("mark").value = ""; $("mark").blur(); });
  document.addEventListener("keydown", key);
  new ResizeObserver(() => { shown.dirty = true; }).observe(screen);
}

function stop() { if (tell({ do: "stop" })) said("line", "stopping", "bad"); }
function go(frame) {
  const last = Number($("frame-wanted").max);
  const wanted = Math.min(Math.max(frame, 0), last);
  $("frame-wanted").value = wanted;
  if (tell({ show: { frame: wanted } })) shown.asked = { frame: wanted, at: performance.now() };
}

function play() {
  const plays = $("play").getAttribute("aria-pressed") !== "true";
  $("play").setAttribute("aria-pressed", String(plays));
}

function playOn() {
  if ($("play").getAttribute("aria-pressed") !== "true") return;
  const { value, max } = $("frame-wanted");
  if (Number(value) >= Number(max)) return play();
  if (shown.picture?.index === Number(value)) go(Number(value) + 1); // not before it is there
}

function snapshot() { tell({ do: "snapshot" }); }
function fit() { place.zoom = 0; shown.dirty = true; }
function freeze() {
  shown.frozen = !shown.frozen;
  shown.dirty = true;
  $("freeze").setAttribute("aria-pressed", String(shown.frozen));
  said("line", shown.frozen ? "picture frozen; the run goes on" : "", "");
}

// Asks for as many px of the image as can be seen; for all where it stands still.
function wish() {
  const step = shown.frozen ? 1 : Math.max(1, Math.floor(1 / at().zoom));
  if (step !== shown.step && tell({ show: { step } })) shown.step = step;
}

function sliders() {
  $("tail-said").value = $("tail").value;
  $("score-said").value = Number($("score").value).toFixed(2);
}

function key(event) {
  if (event.key === "Escape") $("modes").close();
  if (event.target.matches("input:not([type=checkbox], [type=range]), select") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (run.about.replay) {
    const frame = Number($("frame-wanted").value);
    const move = { ArrowLeft: () => go(frame - 1), ArrowRight: () => go(frame + 1), Home: () => go(0), End: () => go(Number($("frame-wanted").max)), " ": play }[event.key];
    const taken = event.key === " " ? "button, input" : "input[type=range]";
    if (move && !event.target.matches(taken)) { move(); event.preventDefault(); }
    if ("skm".includes(event.key.toLowerCase())) return;
  }
  const press = { s: stop, f: freeze, k: snapshot, 0: fit, c: () => step($("colour")), p: () => $("circles").click(), n: () => $("denoised").click(), m: () => { $("mark").focus(); event.preventDefault(); } }[event.key.toLowerCase()];
  if (press) { press(); shown.dirty = true; }
}

function step(list) { list.selectedIndex = (list.selectedIndex + 1) % list.options.length; }

sliders();
listen();
connect(hear, take);
draw((index) => { tell({ drawn: index }); wish(); });
setInterval(playOn, 100);
setInterval(() => shown.chosen >= 0 && showChosen(), 300);
