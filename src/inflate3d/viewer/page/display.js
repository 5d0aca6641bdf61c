// How a case is shown: its classes, opacity, view, modality and window.

import { counts } from "./drawing.js";
import { byId, element, show } from "./elements.js";
import { PLANES, thickestPlane, VIEWS } from "./pane.js";

const CT_WINDOWS = {
  "soft tissue": [-160, 240], lung: [-1350, 150], bone: [-450, 1050], brain: [0, 80], liver: [-20, 180],
};

const MANY_VOXELS = 2 ** 23;
const SOFTWARE = /swiftshader|llvmpipe|softpipe|software|basic render/i;

/** Whether the browser draws on the CPU, where a 3D view of a large scan takes minutes. */
function drawsOnCpu() {
  const context = document.createElement("canvas").getContext("webgl2");
  const names = context?.getExtension("WEBGL_debug_renderer_info");
  const renderer = names ? context.getParameter(names.UNMASKED_RENDERER_WEBGL) : "";
  context?.getExtension("WEBGL_lose_context")?.loseContext();
  return SOFTWARE.test(renderer);
}

/** Connects the controls of the panes; returns functions that the page calls. */
export function display(panes) {
  const hidden = new Set();
  let setup = null;
  let chosen = 1;
  let held = false;

  const each = (run) => panes().forEach(run);
  const opacity = () => (held ? 0 : Number(byId("opacity").value));
  const applyOpacity = () => each((pane) => pane.setOpacity(opacity(), byId("outlines").checked && !held));
  const applyColors = () => each((pane) => pane.setColors(setup.classes, hidden));

  function applyWindow() {
    const [low, high] = [Number(byId("black").value), Number(byId("white").value)];
    const valid = byId("black").value !== "" && byId("white").value !== "" && low < high;
    byId("white").setCustomValidity(valid ? "" : "white must be above black");
    byId("white").reportValidity();
    if (valid) each((pane) => pane.setWindow(low, high));
  }

  function showWindow(low, high) {
    const digits = Math.max(0, Math.min(6, 2 - Math.floor(Math.log10(Math.max(high - low, 1e-6)))));
    [byId("black").value, byId("white").value] = [Number(low.toFixed(digits)), Number(high.toFixed(digits))];
  }

  byId("view").replaceChildren(...Object.keys(VIEWS).map((name) => element("option", { textContent: name })));
  byId("view").onchange = () => each((pane) => pane.viewer.setSliceType(VIEWS[byId("view").value]));
  byId("opacity").oninput = byId("outlines").onchange = applyOpacity;
  byId("black").onchange = byId("white").onchange = applyWindow;
  byId("preset").onchange = () => {
    if (byId("preset").value === "as opened") showWindow(...setup.ranges[Number(byId("modality").value)]);
    else showWindow(...CT_WINDOWS[byId("preset").value]);
    applyWindow();
  };

  function listClasses(bitmap) {
    const held = bitmap ? counts(bitmap) : [];
    const milliliter = setup.spacing.reduce((product, length) => product * length, 0.001);
    byId("classes").replaceChildren(...setup.classes.map((one, place) => {
      const mark = element("i", { className: "mark" });
      mark.style.background = one.color;
      const box = element("input", { type: "checkbox", checked: !hidden.has(one.value), title: "show", ariaLabel: `show ${one.name}` });
      box.onchange = () => {
        if (box.checked) hidden.delete(one.value);
        else hidden.add(one.value);
        applyColors();
      };
      const volume = (held[place + 1] ?? 0) * milliliter;
      const button = element("button", { onclick: () => choose(place + 1), title: `draw ${one.name} (${place + 1})` }, [
        mark, element("span", { className: "name", textContent: one.name }),
        element("span", { className: "figure", textContent: volume ? `${Number(volume.toPrecision(3))} ml` : "" })]);
      button.setAttribute("aria-pressed", String(place + 1 === chosen));
      return element("li", {}, [box, button]);
    }));
  }

  let onChoose = () => {};
  let bitmapOf = () => null;
  function choose(number) {
    if (number > (setup?.classes.length ?? 0)) return;
    chosen = number;
    listClasses(bitmapOf());
    onChoose();
  }

  const shown = {
    get chosen() { return chosen; },
    get view() { return VIEWS[byId("view").value]; },
    get window() { return [Number(byId("black").value), Number(byId("white").value)]; },
    choose,
    showWindow,
    applyOpacity,
    hideLabels(now) {
      if (held === now) return;
      held = now;
      applyOpacity();
    },
    refreshClasses: () => setup && listClasses(bitmapOf()),
    connect(options) { ({ onChoose, bitmapOf } = options); },
    /** Fits the controls to another case; returns what the user should know of it. */
    reset(to) {
      if (to.classes.length < chosen) chosen = 1;
      setup = to;
      byId("modality").replaceChildren(...setup.modalities.map((name, value) => element("option", { value, textContent: name })));
      show(byId("modalities"), setup.modalities.length > 1);
      show(byId("labels"), setup.classes.length > 0);
      show(byId("presets"), setup.hounsfield);
      byId("preset").replaceChildren(...["as opened", ...Object.keys(CT_WINDOWS)].map((name) => element("option", { textContent: name })));
      byId("modality").value = setup.modality ?? 0;
      showWindow(...setup.ranges[setup.modality ?? 0]);
      const inSlices = PLANES.includes(byId("view").value);
      if (inSlices || setup.shape.reduce((product, length) => product * length) < MANY_VOXELS || !drawsOnCpu()) return "";
      byId("view").value = PLANES[thickestPlane(setup)];
      return "This browser has no hardware graphics. Rendering a scan of this size in 3D would be slow, so only slices are shown.";
    },
    /** Gives a new pane what the controls show. */
    dress(pane) {
      pane.setColors(setup.classes, hidden);
      pane.setOpacity(opacity(), byId("outlines").checked && !held);
      pane.setWindow(...shown.window);
      pane.viewer.setSliceType(VIEWS[byId("view").value]);
      pane.onWindow = showWindow;
    },
  };
  return shown;
}
