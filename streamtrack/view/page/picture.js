// The picture: the frame, and what was found in it.

import { drawRegions } from "./regions.js";
import { $, place, run, shown, written } from "./state.js";

const MOST_TAIL = 200;
const OKABE_ITO = ["#E69F00", "#56B4E9", "#009E73", "#F0E442", "#D55E00", "#CC79A7"];
const NAMED = ["orange", "blue", "green", "yellow", "red", "pink"];
const RAMP = [[70, 110, 190], [95, 150, 195], [140, 185, 175], [195, 212, 130], [250, 235, 80]]; // seen on black

export function grey(bytes, [width, height]) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < bytes.length; i++) pixels[i] = 0xff000000 | (bytes[i] * 0x010101);
  context.putImageData(image, 0, 0);
  return canvas;
}

export function keepTails(frames, places, ids) {
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

// Draws whenever there is something new, and says of which frame.
export function draw(drawn) {
  requestAnimationFrame(() => draw(drawn));
  const canvas = $("screen");
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; shown.dirty = true; }
  if (!shown.dirty || !shown.picture) return;
  shown.dirty = false;
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
  drawn(shown.picture.index);
}

// Where image px lie on the canvas, of the i-th image beside another.
export function at(i = 0) {
  const canvas = $("screen");
  const [height, width] = shown.picture.shape;
  const room = canvas.width / Math.max(1, shown.images.length);
  const fit = Math.min(room / width, canvas.height / height);
  const zoom = place.zoom || fit;
  const [y, x] = place.zoom ? [place.y, place.x] : [height / 2, width / 2];
  return { zoom, left: i * room + room / 2 - x * zoom, top: canvas.height / 2 - y * zoom };
}

export function drawOne(context, image, view) {
  const { zoom, left, top } = view;
  const px = shown.picture.px;
  context.imageSmoothingEnabled = zoom < 1;
  context.drawImage(image, left, top, image.width * px * zoom, image.height * px * zoom);
  const ratio = window.devicePixelRatio || 1;
  const colourOf = colours();
  drawTails(context, view, colourOf, ratio);
  if ($("circles").checked) drawCircles(context, view, colourOf, ratio);
  if ($("regions").checked) drawRegions(context, view);
  for (const each of shown.picture.commands) {
    if (each.x === undefined) continue;
    context.strokeStyle = "#fff";
    context.lineWidth = 2 * ratio;
    const [x, y] = [left + (each.x + 0.5) * zoom, top + (each.y + 0.5) * zoom];
    context.strokeRect(x - 10 * ratio, y - 10 * ratio, 20 * ratio, 20 * ratio);
  }
}

export function drawTails(context, { zoom, left, top }, colourOf, ratio) {
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

export function drawCircles(context, { zoom, left, top }, colourOf, ratio) {
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

export function column(name) {
  const { columns, values, found } = shown.picture;
  const at = columns.indexOf(name);
  return at < 0 ? null : values.subarray(at * found, (at + 1) * found);
}

// The colour of each track: its own, or on a scale from the lowest to the highest of this frame.
export function colours() {
  const name = $("colour").value;
  const values = name === "id" ? null : column(name);
  $("scale").hidden = !values;
  if (!values) return (id) => OKABE_ITO[id % OKABE_ITO.length];
  const of = new Map();
  shown.picture.particles.forEach((id, i) => { if (id >= 0 && Number.isFinite(values[i])) of.set(id, values[i]); });
  const names = name === "mode" ? run.about.modes : run.about.classes?.[name];
  if (names?.length) {
    $("scale").textContent = names.join(", ") + ": " + names.map((_, i) => NAMED[i % NAMED.length]).join(", ");
    return (id) => (of.has(id) ? OKABE_ITO[of.get(id) % OKABE_ITO.length] : "#5a6470");
  }
  const sorted = [...of.values()].sort((a, b) => a - b);
  const [low, high] = [sorted[Math.floor(0.02 * sorted.length)] ?? 0, sorted[Math.ceil(0.98 * sorted.length) - 1] ?? 1];
  $("scale").replaceChildren(written(low, name), document.createElement("i"), written(high, name));
  return (id) => (of.has(id) ? ramp((of.get(id) - low) / (high - low || 1)) : "#5a6470");
}

export function ramp(share) {
  const at = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1);
  const i = Math.min(Math.floor(at), RAMP.length - 2);
  const mixed = RAMP[i].map((value, k) => Math.round(value + (at - i) * (RAMP[i + 1][k] - value)));
  return `rgb(${mixed.join()})`;
}

export function under(event) {
  const ratio = window.devicePixelRatio || 1;
  const px = { x: event.offsetX * ratio, y: event.offsetY * ratio };
  const room = $("screen").width / Math.max(1, shown.images.length);
  return { ...at(Math.min(Math.floor(px.x / room), Math.max(0, shown.images.length - 1))), px };
}

// The particle that is nearest to a place on the screen, within a finger's width.
export function nearest(event) {
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

export function zoomAt(event, factor) {
  if (!shown.picture) return;
  const { zoom, left, top, px } = under(event);
  const [y, x] = [(px.y - top) / zoom, (px.x - left) / zoom]; // stays where it is
  const room = $("screen").width / Math.max(1, shown.images.length);
  place.zoom = Math.min(Math.max(zoom * factor, 0.05), 64);
  place.x = x - ((px.x % room) - room / 2) / place.zoom;
  place.y = y - (px.y - $("screen").height / 2) / place.zoom;
  shown.dirty = true;
}
