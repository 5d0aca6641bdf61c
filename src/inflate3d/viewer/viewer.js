// Shows a scan with up to two label maps side by side, by NiiVue, for `inflate3d view --browser`.
"use strict";

const VIEWS = { "three planes and 3D": 3, axial: 0, coronal: 1, sagittal: 2, "3D": 4 };

function element(tag, properties = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function labeled(text, control) {
  return element("label", {}, [text, control]);
}

function colorTable(classes) {
  const colors = classes.map((each) => [1, 3, 5].map((at) => parseInt(each.color.slice(at, at + 2), 16)));
  const channel = (number) => [0, ...colors.map((color) => color[number])];
  return {
    R: channel(0), G: channel(1), B: channel(2),
    A: [0, ...colors.map(() => 255)],
    I: [...Array(classes.length + 1).keys()],
    labels: ["", ...classes.map((each) => each.name)],
  };
}

async function addImage(viewer, buffer, options) {
  const file = new File([buffer], options.name + ".nii.gz");
  const image = await niivue.NVImage.loadFromFile({ file, name: file.name, ...options.shown });
  if (options.classes) image.setColormapLabel(colorTable(options.classes));
  viewer.addVolume(image);
}

async function newPane(root, title, setup, scan, map) {
  const canvas = element("canvas", { tabIndex: 0, ariaLabel: `${setup.scan}, ${title}` });
  const place = element("p", { className: "place", ariaLive: "polite" });
  root.append(element("figure", {}, [element("figcaption", { textContent: title }),
    element("div", { className: "canvas" }, [canvas]), place]));
  const viewer = new niivue.Niivue({
    backColor: [0, 0, 0, 1], show3Dcrosshair: true, dragAndDropEnabled: false, isRadiologicalConvention: true,
    sagittalNoseLeft: true,
    multiplanarShowRender: niivue.SHOW_RENDER.ALWAYS, multiplanarForceRender: true, isNearestInterpolation: false,
    loadingText: "loading", crosshairWidth: 0.5, logLevel: "error",
    onLocationChange: (location) => { place.textContent = location.string; },
  });
  await viewer.attachToCanvas(canvas);
  const [low, high] = setup.range;
  await addImage(viewer, scan, { name: "scan", shown: { colormap: "gray", cal_min: low, cal_max: high } });
  if (map) await addImage(viewer, map, { name: "labels", classes: setup.classes, shown: { opacity: 0.5 } });
  viewer.setSliceType(VIEWS["three planes and 3D"]);
  return viewer;
}

function controls(viewers, setup) {
  const view = element("select", {}, Object.keys(VIEWS).map((name) => element("option", { textContent: name })));
  view.onchange = () => viewers.forEach((viewer) => viewer.setSliceType(VIEWS[view.value]));
  const [black, white] = setup.range.map((value) => element("input", { type: "number", step: "any", value }));
  black.onchange = white.onchange = () => viewers.forEach((viewer) => {
    if (!(Number(black.value) < Number(white.value))) return;
    viewer.volumes[0].cal_min = Number(black.value);
    viewer.volumes[0].cal_max = Number(white.value);
    viewer.updateGLVolume();
  });
  const parts = [labeled("view ", view), labeled("black ", black), labeled("white ", white)];
  if (setup.maps.length) {
    const strength = element("input", { type: "range", min: 0, max: 1, step: 0.05, value: 0.5 });
    strength.oninput = () => viewers.forEach((viewer) => viewer.setOpacity(1, Number(strength.value)));
    const outline = element("input", { type: "checkbox" });
    outline.onchange = () => viewers.forEach((viewer) => viewer.setAtlasOutline(outline.checked ? 1 : 0));
    parts.push(labeled("labels ", strength), labeled("outlines ", outline));
  }
  return element("div", { className: "controls" }, parts);
}

function legend(setup) {
  return element("ul", { className: "classes" }, setup.classes.map((each) => {
    const mark = element("i", { className: "mark" });
    mark.style.background = each.color;
    return element("li", {}, [mark, each.name]);
  }));
}

/** Shows a scan in `root`; `load(name)` promises the bytes of "scan", "map0" and "map1". */
async function showScan(root, setup, load) {
  const panes = element("div", { className: "panes" });
  root.replaceChildren(panes);
  try {
    const scan = await load("scan");
    const viewers = [];
    for (const [number, name] of (setup.maps.length ? setup.maps : [setup.scan]).entries()) {
      const map = setup.maps.length ? await load(`map${number}`) : null;
      viewers.push(await newPane(panes, name, setup, scan, map));
    }
    viewers.forEach((viewer) => viewer.broadcastTo(viewers.filter((other) => other !== viewer), { "2d": true, "3d": true }));
    root.prepend(controls(viewers, setup), legend(setup));
    root.dataset.state = "ready";
  } catch (error) {
    root.replaceChildren(element("p", { role: "alert", textContent: `The scan can't be shown: ${error.message ?? error}. ` +
      "The viewer needs a browser with WebGL 2." }));
    root.dataset.state = "failed";
  }
}
