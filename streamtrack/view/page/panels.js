// What stands beside the picture.

import { tell } from "./line.js";
import { column } from "./picture.js";
import { $, element, item, run, said, short, shown, showList, titled, written } from "./state.js";

const HEARD_MS = 3000;

export function showState({ stream, denoised, frame }) {
  const { state, about } = run;
  if (shown.stream !== stream) shown.tails.clear(); // another movie
  shown.stream = stream;
  said("name", about.name ?? "");
  document.title = `${about.name} - streamtrack`;
  said("mode", state.mode ?? "", state.mode === "armed" ? "armed" : "");
  $("disarm").hidden = state.mode !== "armed";
  $("record").hidden = typeof state.recording !== "boolean";
  $("record").setAttribute("aria-pressed", String(state.recording));
  $("record").textContent = state.recording ? "Recording" : "Record";
  $("record").title = state.recording ? "Raw frames are written: leave them out from now on" : "Raw frames are left out: write them from now on";
  $("exposures").hidden = !state.limits?.exposure_ms;
  const frames = state.frames ?? {};
  if (about.replay) return showReplay(frame, stream, denoised);
  said("frame", `frame ${frames.processed ?? 0}${about.n_frames ? ` of ${about.n_frames}` : ""}`);
  said("rate", `${(run.history.at(-1)?.rate ?? 0).toFixed(1)} frames/s`);
  showRest(stream, denoised);
}

// Of a run that is over: which frame, and nothing that changes anything.
function showReplay(frame, stream, denoised) {
  for (const id of ["stop", "disarm", "snapshot", "record", "marking", "thresholds", "exposures", "follow", "freeze", "rate"]) $(id).hidden = true;
  $("replay").hidden = false;
  $("mode").disabled = true;
  $("frame-wanted").max = run.about.n_frames - 1;
  const { asked } = shown; // what the server said before it heard of that is old
  if (asked && (frame === asked.frame || performance.now() - asked.at > HEARD_MS)) shown.asked = null;
  if (!shown.asked && document.activeElement !== $("frame-wanted")) $("frame-wanted").value = frame ?? 0;
  said("frame", `frame ${frame ?? 0} of 0 to ${run.about.n_frames - 1}`);
  said("charts", "Over all frames");
  for (const which of ["rate", "latency"]) $(`chart-${which}`).parentElement.hidden = true;
  $("denoising").hidden = run.about.images.length < 2;
  const counts = run.about.counts[stream] ?? run.about.counts[0];
  run.history = counts.detections.map((n, i) => ({ detections: n, tracks: counts.tracks[i] }));
  showRest(stream, denoised);
}

function showRest(stream, denoised) {
  const { state, about } = run;
  const frames = state.frames ?? {};
  $("lost").hidden = !frames.lost;
  said("lost", `${frames.lost} lost`, "bad");
  showList("losses", Object.entries(frames.lost_by_cause ?? {}).map(([cause, n]) => `${n}: ${cause}`));
  showRules(state.rules ?? {});
  showLog(state.log ?? []);
  if (!about.replay) $("thresholds").hidden = typeof state.threshold !== "number";
  if (document.activeElement !== $("threshold")) $("threshold").value = state.threshold;
  $("follow").textContent = state.following === shown.chosen ? "Let go" : "Follow";
  const fates = Object.entries(state.actuators ?? {}).map(([name, each]) => `${name}: ${counted(each)}`);
  showList("commands", fates);
  showLatency(state);
  const light = state.light;
  const other = [];
  if (light) other.push(`light used ${light.used_ms} ms${light.left_ms === null ? "" : `, left ${light.left_ms} ms`}${light.on.length ? `; on: ${light.on.join(", ")}` : ""}`);
  other.push(...lamps(state));
  if (state.disk_free_bytes) other.push(`${(state.disk_free_bytes / 1e9).toFixed(1)} GB left on the disk`);
  if (state.stopping) other.push("stopping: files are being finished");
  $("other").replaceChildren(...other.map(item));
  $("other").parentElement.hidden = !other.length;
  const streams = about.streams ?? [];
  $("streams").hidden = streams.length < 2;
  if ($("stream").options.length !== streams.length) $("stream").replaceChildren(...streams.map((name, i) => new Option(name, i)));
  if (document.activeElement !== $("stream")) $("stream").value = stream;
  $("denoised").checked = denoised;
  said("image", about.image ?? "denoised");
  (about.replay ? ["found"] : ["rate", "found", "latency"]).forEach(drawChart);
}

// Each shutter and light that commands may switch, and whether they have it on.
function lamps({ limits, light, mode }) {
  const lit = light?.on ?? [];
  const names = [...new Set([...(limits?.shutters ?? []), ...(limits?.light ?? [])])];
  const word = (name) => (lit.some((each) => each === name || each.startsWith(`${name}.`)) ? `on${mode === "armed" ? "" : " (rehearsed)"}` : "off");
  return names.map((name) => `${name}: ${word(name)}`);
}

// A rule, what it did, and a button that holds it back.
export function showRules(rules) {
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
    button.hidden = Boolean(run.about.replay);
    button.textContent = paused ? "Resume" : "Pause";
    text.textContent = `${name}: ${paused ? "paused; " : ""}${counted(rest)}`;
    list.children[i].className = paused ? "paused" : "";
  });
}

export function showLog(lines) {
  $("log").hidden = !lines.length;
  $("log").querySelector("ul").replaceChildren(...lines.slice(-20).reverse().map((line) => {
    const after = line.after ?? "";
    const what = line.change ? `${line.change} ${line.rule ?? ""} ${typeof after === "object" ? JSON.stringify(after) : after}` : `${line.rule}: ${line.actuator} ${JSON.stringify(line.action)}`;
    const made = item(`frame ${line.frame}: ${line.fate}, ${what}${line.error ? `: ${line.error}` : ""}`);
    made.className = ["refused", "failed", "stale", "dropped"].includes(line.fate) ? "bad" : "";
    return made;
  }));
}

export function counted(each) {
  const parts = Object.entries(each).filter(([, value]) => typeof value === "number" && value).map(([name, value]) => `${value} ${name.replaceAll("_", " ")}`);
  const flags = Object.entries(each).filter(([, value]) => value === true).map(([name]) => name.replaceAll("_", " "));
  return [...parts, ...flags, ...(each.error ? [each.error] : [])].join(", ") || "nothing yet";
}

export function showLatency(state) {
  const rows = Object.entries(state.latency_ms ?? {}).filter(([, each]) => each.n);
  const lag = state.view?.lag_ms;
  if (lag?.n && !run.about.replay) rows.push([run.about.live ? "camera to page" : "tracked to page", { ...lag, max: null }]);
  $("latency").tBodies[0].replaceChildren(...rows.map(([name, each]) => {
    const row = document.createElement("tr");
    for (const text of [name, each.p50, each.p99, each.max]) {
      row.insertCell().textContent = typeof text === "number" ? text.toFixed(2) : text ?? "";
    }
    return row;
  }));
}

export function drawChart(which) {
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
  if (run.about.replay && shown.picture) {
    const x = room + ((width - room) * shown.picture.index) / Math.max(1, run.about.n_frames - 1);
    context.fillStyle = "#d5dade";
    context.fillRect(x, 0, ratio, height);
  }
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

export function offerColumns(names) {
  const list = $("colour");
  if (list.options.length === names.length + 1) return;
  const chosen = list.value;
  list.replaceChildren(new Option("track", "id"), ...names.map((name) => new Option(titled(name), name)));
  list.value = names.includes(chosen) ? chosen : "id";
}

export function showContrast([low, high]) {
  for (const [id, value] of [["black", low], ["white", high]]) {
    if (document.activeElement !== $(id)) $(id).value = short(value);
  }
}

export function showChosen() {
  const i = shown.picture ? shown.picture.particles.indexOf(shown.chosen) : -1;
  $("chosen").hidden = shown.chosen < 0;
  said("chosen-id", shown.chosen);
  if (shown.chosen < 0) return;
  const { here, found, columns } = shown.picture;
  const rows = i < 0 ? [["", "not in this frame"]]
    : [["x, y", `${here[found + i].toFixed(2)}, ${here[i].toFixed(2)} px`], ...columns.map((name) => [titled(name), written(column(name)[i], name)])];
  $("chosen-values").replaceChildren(...rows.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}
