// Shows a run: what the server sends is drawn, nothing is kept. No library, nothing from elsewhere.

const MOST_TAIL = 200;
const AGAIN_MS = 1500;
const OKABE_ITO = ["#E69F00", "#56B4E9", "#009E73", "#F0E442", "#D55E00", "#CC79A7"];
const RAMP = [[70, 110, 190], [95, 150, 195], [140, 185, 175], [195, 212, 130], [250, 235, 80]]; // seen on black
const UNITS = { _px_s: "px/s", _px2_s: "px²/s", _px: "px", _frames: "frames", _um: "µm", _um_s: "µm/s" };
const $ = (id) => document.getElementById(id);
const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";

const run = { about: {}, state: {}, history: [], over: null };
const shown = { picture: null, images: [], tails: new Map(), chosen: -1, frozen: false, asked: {} };
const place = { zoom: 0, y: 0, x: 0 }; // of the view: canvas px per image px, and the image px in the middle; 0: fit
let socket = null;
let dirty = true;

// ---- the line to the server

function connect() {
  socket = new WebSocket(`ws://${location.host}/pages`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => { socket.send(JSON.stringify({ token })); said("line", ""); };
  socket.onmessage = (event) => {
    if (typeof event.data === "string") hear(JSON.parse(event.data));
    else if (!shown.frozen) take(event.data);
  };
  socket.onclose = (event) => {
    if (run.over) return;
    if (event.code === 4401) return alarm("The token in the address is not this run's: open the address that the terminal shows.");
    said("line", "no connection", "bad");
    setTimeout(connect, AGAIN_MS);
  };
}

function tell(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function hear(news) {
  if (news.over) return end(news.over);
  if (news.outcome?.error) return alarm(news.outcome.error);
  if (news.of?.do === "may_move") { $("may-move").textContent = news.outcome.done; return $("modes").showModal(); }
  if (news.outcome) return;
  run.about = news.about;
  run.state = news.state;
  run.history.push(...news.history);
  run.history.splice(0, run.history.length - 1200);
  showState(news.shown);
}

function end(how) {
  run.over = how;
  const lost = how.frames?.lost ? `, ${how.frames.lost} frames lost` : "";
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
  keepTails(head.frames, new Float32Array(places), new Int32Array(ids));
  shown.picture = {
    ...head, here: new Float32Array(here), particles: new Int32Array(particles), values: new Float32Array(values),
  };
  shown.images = images.map((image) => grey(new Uint8Array(image), head.size));
  offerColumns(head.columns);
  showContrast(head.contrast);
  dirty = true;
}

function grey(bytes, [width, height]) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < bytes.length; i++) pixels[i] = 0xff000000 | (bytes[i] * 0x010101);
  context.putImageData(image, 0, 0);
  return canvas;
}

function keepTails(frames, places, ids) {
  const n = ids.length;
  let at = 0;
  for (const [index, count] of frames) {
    for (const end = at + count; at < end; at++) {
      if (ids[at] < 0) continue;
      if (!shown.tails.has(ids[at])) shown.tails.set(ids[at], []);
      shown.tails.get(ids[at]).push([index, places[at], places[n + at]]);
    }
  }
  const newest = frames.length ? frames.at(-1)[0] : 0;
  for (const [id, tail] of shown.tails) {
    while (tail.length && tail[0][0] <= newest - MOST_TAIL) tail.shift();
    if (!tail.length) shown.tails.delete(id);
  }
}

// ---- the picture

function draw() {
  requestAnimationFrame(draw);
  const canvas = $("screen");
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; dirty = true; }
  if (!dirty || !shown.picture) return;
  dirty = false;
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, height);
  const beside = shown.images.length;
  for (let i = 0; i < beside; i++) {
    context.save();
    context.beginPath();
    context.rect((i * width) / beside, 0, width / beside - (i < beside - 1 ? 2 : 0), height);
    context.clip();
    drawOne(context, shown.images[i], at(i));
    context.restore();
  }
  tell({ drawn: shown.picture.index });
}

// Where image px lie on the canvas, of the i-th image beside another.
function at(i = 0) {
  const canvas = $("screen");
  const [height, width] = shown.picture.shape;
  const room = canvas.width / Math.max(1, shown.images.length);
  const fit = Math.min(room / width, canvas.height / height);
  const zoom = place.zoom || fit;
  const [y, x] = place.zoom ? [place.y, place.x] : [height / 2, width / 2];
  return { zoom, left: i * room + room / 2 - x * zoom, top: canvas.height / 2 - y * zoom };
}

function drawOne(context, image, view) {
  const { zoom, left, top } = view;
  const px = shown.picture.px;
  context.imageSmoothingEnabled = zoom < 1;
  context.drawImage(image, left, top, image.width * px * zoom, image.height * px * zoom);
  const ratio = window.devicePixelRatio || 1;
  const colourOf = colours();
  drawTails(context, view, colourOf, ratio);
  if ($("circles").checked) drawCircles(context, view, colourOf, ratio);
  for (const each of shown.picture.commands) {
    if (each.x === undefined) continue;
    context.strokeStyle = "#fff";
    context.lineWidth = 2 * ratio;
    const [x, y] = [left + (each.x + 0.5) * zoom, top + (each.y + 0.5) * zoom];
    context.strokeRect(x - 10 * ratio, y - 10 * ratio, 20 * ratio, 20 * ratio);
  }
}

function drawTails(context, { zoom, left, top }, colourOf, ratio) {
  const oldest = shown.picture.index - Number($("tail").value);
  context.lineWidth = 1.4 * ratio;
  context.lineJoin = "round";
  for (const [id, tail] of shown.tails) {
    if (tail.at(-1)[0] <= oldest) continue;
    context.strokeStyle = colourOf(id);
    const goesOn = tail.at(-1)[0] >= shown.picture.index - 3;
    context.globalAlpha = shown.chosen === id ? 1 : shown.chosen >= 0 || !goesOn ? 0.3 : 0.9;
    context.beginPath();
    let pen = false;
    for (const [index, y, x] of tail) {
      if (index <= oldest) continue;
      context[pen ? "lineTo" : "moveTo"](left + (x + 0.5) * zoom, top + (y + 0.5) * zoom);
      pen = true;
    }
    context.stroke();
  }
  context.globalAlpha = 1;
}

function drawCircles(context, { zoom, left, top }, colourOf, ratio) {
  const { here, particles, found } = shown.picture;
  const scores = column("score");
  const least = Number($("score").value);
  const radius = Math.max(4 * ratio, 4 * zoom);
  for (let i = 0; i < found; i++) {
    if (scores && scores[i] < least) continue;
    const chosen = particles[i] >= 0 && particles[i] === shown.chosen;
    context.strokeStyle = particles[i] < 0 ? "#8d98a3" : colourOf(particles[i]);
    context.lineWidth = (chosen ? 3 : 1.2) * ratio;
    context.beginPath();
    context.arc(left + (here[found + i] + 0.5) * zoom, top + (here[i] + 0.5) * zoom, radius, 0, 7);
    context.stroke();
  }
}

function column(name) {
  const { columns, values, found } = shown.picture;
  const at = columns.indexOf(name);
  return at < 0 ? null : values.subarray(at * found, (at + 1) * found);
}

// The colour of each track: its own, or on a scale from the lowest to the highest of this frame.
function colours() {
  const name = $("colour").value;
  const values = name === "id" ? null : column(name);
  $("scale").hidden = !values;
  if (!values) return (id) => OKABE_ITO[id % OKABE_ITO.length];
  const of = new Map();
  shown.picture.particles.forEach((id, i) => { if (id >= 0 && Number.isFinite(values[i])) of.set(id, values[i]); });
  const names = name === "mode" ? run.about.modes : run.about.classes?.[name];
  if (names?.length) {
    $("scale").textContent = names.join(", ") + ": " + names.map((_, i) => ["orange", "blue", "green", "yellow", "red", "pink"][i % 6]).join(", ");
    return (id) => (of.has(id) ? OKABE_ITO[of.get(id) % OKABE_ITO.length] : "#5a6470");
  }
  const sorted = [...of.values()].sort((a, b) => a - b);
  const [low, high] = [sorted[Math.floor(0.02 * sorted.length)] ?? 0, sorted[Math.ceil(0.98 * sorted.length) - 1] ?? 1];
  $("scale").replaceChildren(written(low, name), document.createElement("i"), written(high, name));
  return (id) => (of.has(id) ? ramp((of.get(id) - low) / (high - low || 1)) : "#5a6470");
}

function ramp(share) {
  const at = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1);
  const i = Math.min(Math.floor(at), RAMP.length - 2);
  const mixed = RAMP[i].map((value, k) => Math.round(value + (at - i) * (RAMP[i + 1][k] - value)));
  return `rgb(${mixed.join()})`;
}

// ---- what stands beside it

function showState({ stream, denoised, contrast }) {
  const { state, about } = run;
  said("name", about.name ?? "");
  document.title = `${about.name} - streamtrack`;
  said("mode", state.mode ?? "", state.mode === "armed" ? "armed" : "");
  $("disarm").hidden = state.mode !== "armed";
  $("exposures").hidden = !state.limits?.exposure_ms;
  const frames = state.frames ?? {};
  said("frame", `frame ${frames.processed ?? 0}${about.n_frames ? ` of ${about.n_frames}` : ""}`);
  said("rate", `${(run.history.at(-1)?.rate ?? 0).toFixed(1)} frames/s`);
  $("lost").hidden = !frames.lost;
  said("lost", `${frames.lost} lost`, "bad");
  showList("losses", Object.entries(frames.lost_by_cause ?? {}).map(([cause, n]) => `${n}: ${cause}`));
  showRules(state.rules ?? {});
  showLog(state.log ?? []);
  $("thresholds").hidden = typeof state.threshold !== "number";
  if (document.activeElement !== $("threshold")) $("threshold").value = state.threshold;
  $("follow").textContent = state.following === shown.chosen ? "Let go" : "Follow";
  const fates = Object.entries(state.actuators ?? {}).map(([name, each]) => `${name}: ${counted(each)}`);
  showList("commands", fates);
  showLatency(state);
  const light = state.light;
  const other = [];
  if (light) other.push(`light used ${light.used_ms} ms${light.left_ms === null ? "" : `, left ${light.left_ms} ms`}${light.on.length ? `; on: ${light.on.join(", ")}` : ""}`);
  if (state.disk_free_bytes) other.push(`${(state.disk_free_bytes / 1e9).toFixed(1)} GB left on the disk`);
  if (state.stopping) other.push("stopping: files are being finished");
  $("other").replaceChildren(...other.map(item));
  const streams = about.streams ?? [];
  $("streams").hidden = streams.length < 2;
  if ($("stream").options.length !== streams.length) $("stream").replaceChildren(...streams.map((name, i) => new Option(name, i)));
  if (document.activeElement !== $("stream")) $("stream").value = stream;
  $("denoised").checked = denoised;
  shown.asked.contrast = contrast;
  ["rate", "found", "latency"].forEach(drawChart);
}

// A rule, what it did, and a button that holds it back.
function showRules(rules) {
  const names = Object.keys(rules);
  $("rules").hidden = !names.length;
  const list = $("rules").querySelector("ul");
  if (list.children.length !== names.length) {
    list.replaceChildren(...names.map((name) => {
      const made = item("");
      const button = element("button", "");
      button.addEventListener("click", () => tell({ do: run.state.rules[name].paused ? "resume" : "pause", rule: name }));
      made.append(button, document.createElement("span"));
      return made;
    }));
  }
  names.forEach((name, i) => {
    const [button, text] = list.children[i].children;
    const { paused, ...rest } = rules[name];
    button.textContent = paused ? "Resume" : "Pause";
    text.textContent = `${name}: ${paused ? "paused; " : ""}${counted(rest)}`;
    list.children[i].className = paused ? "paused" : "";
  });
}

function showLog(lines) {
  $("log").hidden = !lines.length;
  $("log").querySelector("ul").replaceChildren(...lines.slice(-20).reverse().map((line) => {
    const what = line.change ? `${line.change} ${line.rule ?? ""} ${line.after ?? ""}` : `${line.rule}: ${line.actuator} ${JSON.stringify(line.action)}`;
    const made = item(`frame ${line.frame}: ${line.fate}, ${what}${line.error ? `: ${line.error}` : ""}`);
    made.className = ["refused", "failed", "stale", "dropped"].includes(line.fate) ? "bad" : "";
    return made;
  }));
}

function counted(each) {
  const parts = Object.entries(each).filter(([, value]) => typeof value === "number" && value).map(([name, value]) => `${value} ${name.replaceAll("_", " ")}`);
  const flags = Object.entries(each).filter(([, value]) => value === true).map(([name]) => name.replaceAll("_", " "));
  return [...parts, ...flags, ...(each.error ? [each.error] : [])].join(", ") || "nothing yet";
}

function showLatency(state) {
  const rows = Object.entries(state.latency_ms ?? {}).filter(([, each]) => each.n);
  const lag = state.view?.lag_ms;
  if (lag?.n) rows.push([run.about.live ? "camera to page" : "tracked to page", { ...lag, max: null }]);
  $("latency").tBodies[0].replaceChildren(...rows.map(([name, each]) => {
    const row = document.createElement("tr");
    for (const text of [name, each.p50, each.p99, each.max]) {
      row.insertCell().textContent = typeof text === "number" ? text.toFixed(2) : text ?? "";
    }
    return row;
  }));
}

function drawChart(which) {
  const series = { rate: ["rate"], found: ["detections", "tracks"], latency: ["p50", "p99"] }[which];
  const canvas = $(`chart-${which}`);
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio];
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const points = run.history.slice(-600);
  const most = Math.max(1e-9, ...points.flatMap((point) => series.map((name) => point[name])));
  const room = 40 * ratio;
  context.fillStyle = "#8d98a3";
  context.font = `${11 * ratio}px system-ui, sans-serif`;
  context.textBaseline = "top";
  context.fillText(short(most), 0, 0);
  context.textBaseline = "bottom";
  context.fillText("0", 0, height);
  series.forEach((name, k) => {
    context.strokeStyle = k ? "#E69F00" : "#56B4E9";
    context.setLineDash(k ? [5 * ratio, 3 * ratio] : []);
    context.lineWidth = 1.6 * ratio;
    context.beginPath();
    points.forEach((point, i) => {
      const x = room + ((width - room) * i) / Math.max(1, points.length - 1);
      context[i ? "lineTo" : "moveTo"](x, height - 2 - ((height - 4) * point[name]) / most);
    });
    context.stroke();
  });
}

function offerColumns(names) {
  const list = $("colour");
  if (list.options.length === names.length + 1) return;
  const chosen = list.value;
  list.replaceChildren(new Option("track", "id"), ...names.map((name) => new Option(titled(name), name)));
  list.value = names.includes(chosen) ? chosen : "id";
}

function showContrast([low, high]) {
  for (const [id, value] of [["black", low], ["white", high]]) {
    if (document.activeElement !== $(id)) $(id).value = short(value);
  }
}

function showChosen() {
  const i = shown.picture ? shown.picture.particles.indexOf(shown.chosen) : -1;
  $("chosen").hidden = shown.chosen < 0;
  said("chosen-id", shown.chosen);
  if (shown.chosen < 0) return;
  const { here, found, columns } = shown.picture;
  const rows = i < 0 ? [["", "not in this frame"]]
    : [["x, y", `${here[found + i].toFixed(2)}, ${here[i].toFixed(2)} px`], ...columns.map((name) => [titled(name), written(column(name)[i], name)])];
  $("chosen-values").replaceChildren(...rows.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

function written(value, name) {
  const names = name === "mode" ? run.about.modes : run.about.classes?.[name];
  if (names?.length) return names[value] ?? "";
  return `${short(value)} ${unitOf(name)[1]}`;
}

// The end of a column's name that is its unit, and the unit; where the interval is unknown a time is a frame.
function unitOf(name) {
  const [end, unit] = Object.entries(UNITS).find(([ending]) => name.endsWith(ending)) ?? ["", ""];
  return [end, run.about.time_unit === "frame" ? unit.replace("/s", "/frame") : unit];
}

function titled(name) {
  const [end, unit] = unitOf(name);
  return name.slice(0, name.length - end.length).replaceAll("_", " ") + (unit ? ` (${unit})` : "");
}

function short(value) {
  if (!Number.isFinite(value)) return "";
  if (Math.abs(value) < 1e-6) return "0";
  return Math.abs(value) >= 1000 ? String(Math.round(value)) : String(Number(value.toPrecision(4)));
}

function element(kind, text) { const made = document.createElement(kind); made.textContent = text; return made; }
function item(text) { return element("li", text); }
function said(id, text, kind) { $(id).textContent = text; if (kind !== undefined) $(id).className = `badge ${kind}`; }
function alarm(text) { $("message").hidden = false; $("message").textContent = text; }
function showList(id, lines) { $(id).hidden = !lines.length; $(id).querySelector("ul").replaceChildren(...lines.map(item)); }

// ---- what a person does

// The particle that is nearest to a place on the screen, within a finger's width.
function nearest(event) {
  if (!shown.picture) return -1;
  const { zoom, left, top, px } = under(event);
  const { here, found, particles } = shown.picture;
  let [best, least] = [-1, (14 * (window.devicePixelRatio || 1)) ** 2];
  for (let i = 0; i < found; i++) {
    const [dx, dy] = [left + (here[found + i] + 0.5) * zoom - px.x, top + (here[i] + 0.5) * zoom - px.y];
    if (particles[i] >= 0 && dx * dx + dy * dy < least) [best, least] = [i, dx * dx + dy * dy];
  }
  return best;
}

function under(event) {
  const ratio = window.devicePixelRatio || 1;
  const px = { x: event.offsetX * ratio, y: event.offsetY * ratio };
  const room = $("screen").width / Math.max(1, shown.images.length);
  return { ...at(Math.min(Math.floor(px.x / room), Math.max(0, shown.images.length - 1))), px };
}

function zoomAt(event, factor) {
  if (!shown.picture) return;
  const { zoom, left, top, px } = under(event);
  const [y, x] = [(px.y - top) / zoom, (px.x - left) / zoom]; // stays where it is
  const room = $("screen").width / Math.max(1, shown.images.length);
  place.zoom = Math.min(Math.max(zoom * factor, 0.05), 64);
  place.x = x - ((px.x % room) - room / 2) / place.zoom;
  place.y = y - (px.y - $("screen").height / 2) / place.zoom;
  dirty = true;
}

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
  screen.addEventListener("pointerdown", (event) => { held = { x: event.clientX, y: event.clientY, moved: false, ...at() }; screen.setPointerCapture(event.pointerId); });
  screen.addEventListener("pointermove", (event) => {
    if (!held || !shown.picture) return hover(event);
    const ratio = window.devicePixelRatio || 1;
    const [dx, dy] = [(event.clientX - held.x) * ratio, (event.clientY - held.y) * ratio];
    if (Math.hypot(dx, dy) > 4) held.moved = true;
    if (!held.moved) return;
    const room = screen.width / Math.max(1, shown.images.length);
    place.zoom = held.zoom;
    place.x = (room / 2 - held.left - dx) / held.zoom;
    place.y = (screen.height / 2 - held.top - dy) / held.zoom;
    dirty = true;
  });
  screen.addEventListener("pointerup", (event) => {
    if (held && !held.moved) { const i = nearest(event); shown.chosen = i < 0 ? -1 : shown.picture.particles[i]; showChosen(); dirty = true; }
    held = null;
  });
  screen.addEventListener("pointerleave", () => { $("hint").textContent = ""; });
  $("tools").addEventListener("submit", (event) => event.preventDefault());
  $("tools").addEventListener("input", () => { sliders(); dirty = true; });
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
  new ResizeObserver(() => { dirty = true; }).observe(screen);
}

function stop() { tell({ do: "stop" }); said("line", "stopping", "bad"); }
function fit() { place.zoom = 0; dirty = true; }
function freeze() {
  shown.frozen = !shown.frozen;
  $("freeze").setAttribute("aria-pressed", String(shown.frozen));
  said("line", shown.frozen ? "picture frozen; the run goes on" : "", "");
}

function sliders() {
  $("tail-said").value = $("tail").value;
  $("score-said").value = Number($("score").value).toFixed(2);
}

function key(event) {
  if ($("modes").open && event.key !== "s") return;
  if (event.target.matches("input:not([type=checkbox], [type=range]), select") || event.ctrlKey || event.metaKey || event.altKey) return;
  const press = { s: stop, f: freeze, 0: fit, c: () => step($("colour")), p: () => $("circles").click(), n: () => $("denoised").click(), m: () => { $("mark").focus(); event.preventDefault(); } }[event.key.toLowerCase()];
  if (press) { press(); dirty = true; }
}

function step(list) { list.selectedIndex = (list.selectedIndex + 1) % list.options.length; }

sliders();
listen();
connect();
draw();
setInterval(() => shown.chosen >= 0 && showChosen(), 300);
