// Asks the training how it stands, and draws it.

const EVERY_MS = 1000, WIDTH = 420, HEIGHT = 190, LEFT = 54, BOTTOM = 20, SCALE = 3;
const COLOURS = { found: "#56B4E9", missed: "#E69F00", false: "#FF4FD8" };
const token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
const byId = (id) => document.getElementById(id);
let shown = 0, over = false;

async function ask(what, method = "GET") {
  const answer = await fetch(`/api/${what}`, { method, headers: { Authorization: `Bearer ${token}` } });
  if (answer.status === 403) throw new Error("The token in the address is not this training's: open the address that the terminal shows.");
  return answer.json();
}

function alarm(text) {
  byId("message").textContent = text;
  byId("message").hidden = !text;
}

// A chart of some columns of the rows over their steps; of losses the ordinate is logarithmic.
function chart(id, rows, names, { log = false, to = null } = {}) {
  const svg = byId(id), legend = svg.nextElementSibling;
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.replaceChildren();
  legend.replaceChildren();
  const values = rows.flatMap((row) => names.map((name) => row[name])).filter((value) => value !== null && (!log || value > 0));
  if (!values.length) return;
  const level = log ? Math.log10 : (value) => value;
  let low = level(Math.min(...values)), high = level(Math.max(...values));
  if (to !== null) [low, high] = [0, Math.max(to, high)];
  if (high - low < 1e-9) [low, high] = [low - 0.5, high + 0.5];
  const first = rows[0].step, last = Math.max(rows[rows.length - 1].step, first + 1);
  const x = (step) => LEFT + ((WIDTH - LEFT - 6) * (step - first)) / (last - first);
  const y = (value) => 6 + ((HEIGHT - BOTTOM - 6) * (high - level(value))) / (high - low);
  const put = (kind, about, text = "") => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", kind);
    for (const [name, value] of Object.entries(about)) element.setAttribute(name, value);
    element.textContent = text;
    svg.append(element);
  };
  for (const part of [0, 0.5, 1]) {
    const at = low + part * (high - low), value = log ? 10 ** at : at;
    put("line", { class: "grid", x1: LEFT, x2: WIDTH, y1: y(value), y2: y(value) });
    put("text", { x: LEFT - 5, y: y(value) + 4, "text-anchor": "end" }, value.toPrecision(2));
  }
  put("text", { x: WIDTH - 4, y: HEIGHT - 5, "text-anchor": "end" }, `step ${last}`);
  names.forEach((name, number) => {
    const known = rows.filter((row) => row[name] !== null && (!log || row[name] > 0));
    const colour = `c${number % 6}`;
    put("polyline", { class: colour, points: known.map((row) => `${x(row.step)},${y(row[name])}`).join(" ") });
    if (known.length) put("circle", { class: colour, r: 2.5, cx: x(known.at(-1).step), cy: y(known.at(-1)[name]) });
    const entry = document.createElement("span"), mark = document.createElement("i"), newest = rows.at(-1)[name];
    mark.className = colour;
    entry.append(mark, name.replaceAll("_", " ") + (newest === null ? "" : ` ${newest.toPrecision(3)}`));
    legend.append(entry, " ");
  });
}

function columns(rows, wanted) {
  return rows.length ? Object.keys(rows[0]).filter((name) => !["step", "elapsed_s"].includes(name) && wanted(name)) : [];
}

function draw(crop) {
  const [width, height] = crop.size, canvas = document.createElement("canvas"), context = canvas.getContext("2d");
  [canvas.width, canvas.height] = [width * SCALE, height * SCALE];
  const grey = Uint8Array.from(atob(crop.pixels), (each) => each.charCodeAt(0)), image = new ImageData(width, height);
  grey.forEach((value, i) => image.data.set([value, value, value, 255], 4 * i));
  const small = document.createElement("canvas");
  [small.width, small.height] = crop.size;
  small.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  context.lineWidth = SCALE;
  for (const [mark, colour] of Object.entries(COLOURS)) {
    context.strokeStyle = colour;
    for (const [row, column] of crop[mark]) {
      const x = (column + 0.5) * SCALE, y = (row + 0.5) * SCALE, r = 5 * SCALE;
      context.beginPath();
      if (mark === "found") context.arc(x, y, r, 0, 7);
      else if (mark === "missed") context.rect(x - r, y - r, 2 * r, 2 * r);
      else for (const way of [1, -1]) { context.moveTo(x - 0.7 * r, y - 0.7 * r * way); context.lineTo(x + 0.7 * r, y + 0.7 * r * way); }
      context.stroke();
    }
  }
  const figure = document.createElement("figure"), caption = document.createElement("figcaption");
  caption.textContent = `${crop.name.replaceAll("_", " ")}: ${crop.found.length} found, ${crop.missed.length} missed, ${crop.false.length} false`;
  figure.append(canvas, caption);
  return figure;
}

async function look() {
  try {
    const state = await ask("state");
    const minutes = (state.losses.at(-1)?.elapsed_s ?? 0) / 60;
    byId("out").textContent = state.out.split(/[\\/]/).at(-1);
    byId("out").title = state.out;
    byId("phase").textContent = `${state.phase}, ${Math.round(100 * (state.fraction ?? 0))} %, ${minutes.toFixed(1)} min`;
    byId("fraction").value = state.fraction ?? 0;
    byId("stop").disabled = state.stopping || state.phase === "over";
    chart("losses", state.losses, columns(state.losses, () => true), { log: true });
    for (const [id, begins, to] of [["f1", "f1", 1], ["rmse", "rmse", 0], ["count", "count_error", 0]]) {
      const names = columns(state.evaluations, (name) => name.startsWith(begins));
      if (state.evaluations.length) byId(id).parentElement.hidden = !names.length;
      chart(id, state.evaluations, names, { to });
    }
    if (state.shown !== shown) {
      const held = await ask("crops");
      shown = held.shown;
      byId("crops").replaceChildren(...held.crops.map(draw));
    }
    over = state.phase === "over";
    alarm("");
  } catch (error) {
    alarm(over || error instanceof TypeError ? "The training is over, or its program is gone: what it left is in its folder." : error.message);
    byId("stop").disabled = true;
  }
  setTimeout(look, EVERY_MS);
}

byId("stop").onclick = async () => {
  byId("stop").disabled = true;
  try {
    alarm((await ask("stop", "POST")).done);
  } catch (error) {
    alarm(`Not stopped: ${error.message} Ctrl-C in the terminal ends it.`);
  }
};

look();
