// The drawing tools, and the keyboard.

import { byId, element } from "./elements.js";
import { PLANES } from "./pane.js";

const TOOLS = {
  look: { text: "Look", key: "v", title: "Move the crosshair" },
  brush: { text: "Brush", key: "b", title: "Draw with the chosen class" },
  outline: { text: "Outline", key: "o", title: "Draw an outline to fill" },
  fill: { text: "Fill", key: "f", title: "Fill the clicked closed region in its slice" },
  erase: { text: "Erase", key: "e", title: "Erase with the brush" },
  cut: { text: "Cut", key: "x", title: "Draw an outline to erase" },
};

const KEYS = [
  ["1 … 9", "choose a class"], ...Object.values(TOOLS).map((tool) => [tool.key.toUpperCase(), tool.title.toLowerCase()]),
  ["[ ]", "smaller, larger brush"], ["I", "interpolate between drawn slices"],
  ["Ctrl+Z, Ctrl+Y", "undo, redo"], ["↑ ↓", "next, previous slice of the plane clicked last"],
  ["Space", "hide the labels while it is held"], ["Ctrl+S", "save a draft"], ["P", "predict"], ["N", "next case"],
  ["wheel", "scroll through slices"], ["right button", "drag to change the contrast"],
];

const LARGEST = 30;

/** Builds the toolbar; `actions` are the page's functions by name. Returns its state. */
export function toolbar(actions) {
  const state = { tool: "look", size: 3 };
  const buttons = Object.entries(TOOLS).map(([name, tool]) => {
    const button = element("button", { textContent: tool.text, title: `${tool.title} (${tool.key.toUpperCase()})` });
    button.dataset.tool = name;
    button.onclick = () => choose(name);
    return button;
  });
  const size = element("input", { type: "range", min: 1, max: LARGEST, value: state.size });
  const width = element("output", { textContent: state.size });
  size.oninput = () => resize(Number(size.value));
  const action = (id, text, title, run) => element("button", { id, textContent: text, title, onclick: run });

  function choose(name) {
    state.tool = name;
    buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.tool === name)));
    actions.toolChanged();
  }

  function resize(to) {
    state.size = Math.min(Math.max(to, 1), LARGEST);
    [size.value, width.textContent] = [state.size, state.size];
    actions.toolChanged();
  }

  byId("tools").replaceChildren(
    element("div", { className: "group" }, buttons),
    element("label", { title: "Width of brush and eraser in voxels ([ and ])" }, ["width ", size, width]),
    element("div", { className: "group" }, [
      action("interpolate", "Interpolate", "Fill in the chosen class between the slices where it is drawn (I)", actions.interpolate),
      action("undo", "Undo", "Undo (Ctrl+Z)", actions.undo), action("redo", "Redo", "Redo (Ctrl+Y)", actions.redo)]),
  );
  choose("look");
  return { state, choose, resize };
}

/** Names the plane in which slices are interpolated. */
export function namePlane(plane) {
  const button = byId("interpolate");
  if (button) button.textContent = `Interpolate ${PLANES[plane]}`;
}

export function listKeys() {
  byId("keylist").replaceChildren(...KEYS.flatMap(([keys, what]) => [element("dt", { textContent: keys }),
    element("dd", { textContent: what })]));
}

/** What a key does; null for those that are the browser's. */
function commandOf(event, tools, actions) {
  const key = event.key.toLowerCase();
  if (event.altKey) return null;
  if (event.ctrlKey || event.metaKey) {
    return { s: actions.save, z: event.shiftKey ? actions.redo : actions.undo, y: actions.redo }[key] ?? null;
  }
  if (/^[1-9]$/.test(key)) return () => actions.chooseClass(Number(key));
  const tool = Object.keys(TOOLS).find((name) => TOOLS[name].key === key);
  if (tool && tools) return () => tools.choose(tool);
  const sized = { "[": -1, "]": 1 }[key];
  if (sized && tools) return () => tools.resize(tools.state.size + sized);
  const moved = { arrowup: 1, arrowdown: -1, pageup: 5, pagedown: -5 }[key];
  if (moved) return () => actions.step(moved);
  return { i: actions.interpolate, p: actions.predict, n: actions.next, "?": actions.help }[key] ?? null;
}

/** Connects the keyboard. Keys in fields stay the field's, those on the canvas never reach NiiVue's own shortcuts. */
export function keyboard(tools, actions) {
  const typing = (target) => target.matches("input:not([type=range]):not([type=checkbox]), select, dialog *");
  const onCanvas = (event) => event.target.matches("canvas");
  document.addEventListener("keydown", (event) => {
    if (typing(event.target) && !((event.ctrlKey || event.metaKey) && event.key === "s")) return;
    if (onCanvas(event)) event.stopPropagation();
    if (event.key === " " && (onCanvas(event) || event.target === document.body)) {
      event.preventDefault();
      return actions.hideLabels(true);
    }
    if (event.target.matches("input[type=range]") && event.key.startsWith("Arrow")) return;
    const command = commandOf(event, tools, actions);
    if (!command) return;
    event.preventDefault();
    command();
  }, true);
  document.addEventListener("keyup", (event) => {
    if (onCanvas(event)) event.stopPropagation();
    if (event.key === " ") actions.hideLabels(false);
  }, true);
}
