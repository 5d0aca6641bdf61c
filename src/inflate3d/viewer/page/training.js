// The dialog of a training: start, stop, and the curves of loss and Dice while it runs.

import * as api from "./api.js";
import { byId, element, show } from "./elements.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM] = [520, 200, 44, 24];
const EVERY = 2000;

function shape(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function line(rows, column, steps, most, style) {
  const points = rows.filter((row) => row[column] != null).map((row) => [
    LEFT + (WIDTH - LEFT - 8) * (row.step / steps), 8 + (HEIGHT - BOTTOM - 8) * (1 - Math.min(row[column] / most, 1))]);
  const path = shape("polyline", { points: points.map((point) => point.map((at) => at.toFixed(1)).join(",")).join(" "), class: style });
  const last = points.length ? [shape("circle", { cx: points.at(-1)[0], cy: points.at(-1)[1], r: 3, class: style })] : [];
  return [path, ...last];
}

/** Curves of the loss, scaled to its largest value, and of the Dice, from 0 to 1. */
export function drawCurve(root, rows, steps) {
  const losses = rows.map((row) => row.loss).filter((value) => value != null);
  const picture = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": "loss and Dice over the steps" });
  for (const value of [0, 0.5, 1]) {
    const y = 8 + (HEIGHT - BOTTOM - 8) * (1 - value);
    picture.append(shape("line", { x1: LEFT, x2: WIDTH - 8, y1: y, y2: y, class: "grid" }));
    picture.append(shape("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, value));
  }
  picture.append(shape("text", { x: LEFT, y: HEIGHT - 6 }, "step 0"));
  picture.append(shape("text", { x: WIDTH - 8, y: HEIGHT - 6, "text-anchor": "end" }, steps));
  const most = Math.max(...losses, 1e-9);
  picture.append(...line(rows, "loss", steps, most, "loss"), ...line(rows, "dice", steps, 1, "dice"));
  const last = (column) => rows.filter((row) => row[column] != null).at(-1)?.[column];
  const number = (value) => (value == null ? "–" : value.toFixed(3));
  root.replaceChildren(picture, element("p", { className: "legend" }, [
    element("span", { className: "dice", textContent: `validation Dice ${number(last("dice"))}` }),
    element("span", { className: "loss", textContent: `loss ${number(last("loss"))} (scaled to ${number(losses.length ? most : null)})` })]));
}

const TEXTS = {
  idle: "Training uses all label maps marked as final. You can keep labeling meanwhile.",
  running: "Training. You can keep labeling; predictions use the current model until the new one is finished.",
  finished: "Training is finished.",
  stopped: "Training was stopped. Starting it again, without new label maps, resumes it.",
  failed: "Training failed.",
};

/** Connects the dialog; `onEnd` is called with what a training came to that was running. */
export function trainingDialog(model, say, onEnd) {
  let timer = null;
  let before = null;

  async function update() {
    clearTimeout(timer);
    const { state, detail, step, steps, curve } = await api.training();
    const running = state === "running";
    const counted = running && steps ? ` Step ${step} of ${steps}.` : "";
    byId("progress").textContent = TEXTS[state] + counted + (running || !detail ? "" : ` ${detail}`);
    byId("train").textContent = running ? `Training${steps ? ` ${Math.floor((100 * step) / steps)} %` : ""}` : "Train";
    show(byId("options"), !running);
    show(byId("start"), !running);
    show(byId("stop"), running);
    show(byId("curve"), curve.length > 0);
    if (curve.length) drawCurve(byId("curve"), curve, Math.max(steps, step, 1));
    if (before === "running" && !running) onEnd(`${TEXTS[state]} ${detail}`, state === "failed");
    before = state;
    if (running) timer = setTimeout(() => update().catch(later), EVERY);
  }

  function later(error) {
    say(error.message, true);
    timer = setTimeout(() => update().catch(later), 5 * EVERY);
  }

  const act = (action) => async () => {
    try {
      await action();
      await update();
    } catch (error) {
      byId("progress").textContent = error.message;
    }
  };
  byId("train").onclick = act(async () => byId("training").showModal());
  byId("start").onclick = act(() => api.startTraining(model, {
    steps: Math.floor(Number(byId("steps").value)) || 0, warm_start: byId("warm").checked }));
  byId("stop").onclick = act(api.stopTraining);
  update().catch(later);
}
