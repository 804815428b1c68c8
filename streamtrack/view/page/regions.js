// Parts of the image that rules look at, what the stage can bring to the middle; and how regions are moved.

import { run, shown } from "./state.js";

const NEAR = 9; // css px
const COLOURS = ["#F0E442", "#CC79A7", "#009E73", "#D55E00"];
let held = null; // the region that is being moved

const regions = () => run.state.regions ?? [];
const ratio = () => window.devicePixelRatio || 1;

export function drawRegions(context, view) {
  if (run.state.reach_px) {
    trace(context, view, run.state.reach_px, "#8d98a3", [2, 6]);
    name(context, view, run.state.reach_px, "stage limits", "#8d98a3");
  }
  regions().forEach((region, i) => {
    const colour = COLOURS[i % COLOURS.length];
    if (region.target_px) return cross(context, view, region.target_px, colour);
    const outlines = held?.rule === region.rule ? [held.outline] : region.outlines;
    for (const outline of outlines) trace(context, view, outline, colour, [7, 4]);
    if (outlines.length) name(context, view, outlines[0], region.rule, colour);
  });
}

const on = ({ zoom, left, top }, [y, x]) => [left + (x + 0.5) * zoom, top + (y + 0.5) * zoom];

function trace(context, view, outline, colour, dashes) {
  context.strokeStyle = colour;
  context.lineWidth = 1.6 * ratio();
  context.setLineDash(dashes.map((dash) => dash * ratio()));
  context.beginPath();
  outline.forEach((corner, i) => context[i ? "lineTo" : "moveTo"](...on(view, corner)));
  context.closePath();
  context.stroke();
  context.setLineDash([]);
}

function cross(context, view, at, colour) {
  const [x, y] = on(view, at);
  const arm = 8 * ratio();
  context.strokeStyle = colour;
  context.lineWidth = 1.6 * ratio();
  context.beginPath();
  context.moveTo(x - arm, y); context.lineTo(x + arm, y); context.moveTo(x, y - arm); context.lineTo(x, y + arm);
  context.stroke();
}

function name(context, view, outline, text, colour) {
  const places = outline.map((corner) => on(view, corner));
  const [x, y] = places.reduce((one, other) => (other[1] < one[1] - 1 || (other[1] < one[1] + 1 && other[0] < one[0]) ? other : one));
  if (x < -20 || y < -20 || x > context.canvas.width || y > context.canvas.height) return;
  context.fillStyle = colour;
  context.font = `${12 * ratio()}px system-ui, sans-serif`;
  context.textBaseline = "bottom";
  context.fillText(text, Math.max(x, 4 * ratio()), Math.max(y - 2 * ratio(), 14 * ratio()));
}

// Takes hold of the region under the pointer: of a corner, or of the whole by its border; returns whether there is one.
export function hold(view) {
  if (run.about.replay || !shown.picture) return false;
  const near = NEAR * ratio();
  for (const region of regions()) {
    if (!region.y_px && !region.x_px && !region.polygon_px) continue; // a mask, or a point
    const places = region.outlines[0].map((corner) => on(view, corner));
    const corner = places.findIndex(([x, y]) => Math.hypot(x - view.px.x, y - view.px.y) < near);
    const border = places.some((one, i) => away(one, places[(i + 1) % places.length], view.px) < near);
    if (corner < 0 && !border) continue;
    held = { ...region, corner, from: region.outlines[0], outline: region.outlines[0], start: view };
    return true;
  }
  return false;
}

export function drag(px) {
  const { zoom, px: begun } = held.start;
  let [dy, dx] = [(px.y - begun.y) / zoom, (px.x - begun.x) / zoom];
  if (!held.polygon_px && !held.y_px) dy = 0;
  if (!held.polygon_px && !held.x_px) dx = 0;
  const round = (value) => Math.round(value * 10) / 10;
  const moved = ([y, x]) => [round(y + dy), round(x + dx)];
  if (held.corner < 0) held.outline = held.from.map(moved);
  else if (held.polygon_px) held.outline = held.from.map((corner, i) => (i === held.corner ? moved(corner) : corner));
  else {
    const [y, x] = held.from[held.corner];
    held.outline = held.from.map((corner) => [corner[0] === y ? round(y + dy) : corner[0], corner[1] === x ? round(x + dx) : corner[1]]);
  }
  shown.dirty = true;
}

// Returns what to ask for, null where nothing was moved.
export function letGo() {
  const { rule, outline, from, polygon_px, y_px, x_px } = held;
  held = null;
  shown.dirty = true;
  if (JSON.stringify(outline) === JSON.stringify(from)) return null;
  if (polygon_px) return { do: "region", rule, polygon_px: outline };
  const side = (axis) => [Math.min(...outline.map((corner) => corner[axis])), Math.max(...outline.map((corner) => corner[axis]))];
  return { do: "region", rule, ...(y_px && { y_px: side(0) }), ...(x_px && { x_px: side(1) }) };
}

export const isHeld = () => held !== null;

function away([ax, ay], [bx, by], { x, y }) {
  const [dx, dy] = [bx - ax, by - ay];
  const share = Math.min(Math.max(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1), 0), 1);
  return Math.hypot(ax + share * dx - x, ay + share * dy - y);
}
