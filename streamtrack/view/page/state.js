// What the page knows, and how it is written.

const UNITS = { _px_s: "px/s", _px2_s: "px²/s", _px: "px", _frames: "frames", _um: "µm", _um_s: "µm/s" };
export const $ = (id) => document.getElementById(id);
export const run = { about: {}, state: {}, history: [], over: null };
export const shown = { picture: null, step: 1, images: [], tails: new Map(), chosen: -1, frozen: false, dirty: true, stream: 0, asked: null };
export const place = { zoom: 0, y: 0, x: 0 }; // of the view: canvas px per image px, and the image px in the middle; 0: fit

// The end of a column's name that is its unit, and the unit; where the interval is unknown a time is a frame.
export function unitOf(name) {
  const [end, unit] = Object.entries(UNITS).find(([ending]) => name.endsWith(ending)) ?? ["", ""];
  return [end, run.about.time_unit === "frame" ? unit.replace("/s", "/frame") : unit];
}

export function titled(name) {
  const [end, unit] = unitOf(name);
  return name.slice(0, name.length - end.length).replaceAll("_", " ") + (unit ? ` (${unit})` : "");
}

export function written(value, name) {
  const names = name === "mode" ? run.about.modes : run.about.classes?.[name];
  if (names?.length) return names[value] ?? "";
  return `${short(value)} ${unitOf(name)[1]}`;
}

export function short(value) {
  if (!Number.isFinite(value)) return "";
  if (Math.abs(value) < 1e-6) return "0";
  return Math.abs(value) >= 1000 ? String(Math.round(value)) : String(Number(value.toPrecision(4)));
}

export function element(kind, text) { const made = document.createElement(kind); made.textContent = text; return made; }

export function item(text) { return element("li", text); }

export function said(id, text, kind) { $(id).textContent = text; if (kind !== undefined) $(id).className = `badge ${kind}`; }

export function alarm(text) { $("message").hidden = false; $("message").textContent = text; }

export function showList(id, lines) { $(id).hidden = !lines.length; $(id).querySelector("ul").replaceChildren(...lines.map(item)); }
