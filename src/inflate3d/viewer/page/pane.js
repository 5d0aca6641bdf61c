// One view of a scan with one label map, by NiiVue. The label map is NiiVue's drawing.
//
// The scan comes in RAS+ order on a grid without rotation, so that NiiVue's order of voxels is the server's; `affine`
// is the scan's own, for the coordinates that people read.
/* global niivue */

import { element } from "./elements.js";

export const VIEWS = { "three planes and 3D": 3, axial: 0, coronal: 1, sagittal: 2, "3D": 4 };
export const PLANES = ["axial", "coronal", "sagittal"];

/** The axis of voxels that a plane's slices are perpendicular to. */
export const axisOf = (plane) => 2 - plane;

/** The plane of the scan's own slices: perpendicular to its largest spacing. */
export const thickestPlane = ({ spacing }) => axisOf(spacing.indexOf(Math.max(...spacing)));

const OPTIONS = {
  backColor: [0, 0, 0, 1], crosshairColor: [0.34, 0.71, 0.91, 0.9], crosshairWidthUnit: "percent", crosshairWidth: 0.25, fontColor: [0.72, 0.76, 0.8, 1],
  show3Dcrosshair: true, dragAndDropEnabled: false, isRadiologicalConvention: true, sagittalNoseLeft: true,
  multiplanarShowRender: 1, multiplanarForceRender: true, multiplanarPadPixels: 4, multiplanarLayout: 2, loadingText: "", logLevel: "error",
  maxDrawUndoBitmaps: 2, // the page has its own history
};

const rgb = (color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));

export class Pane {
  /** A new figure within `root`, without a scan. */
  static async open(root) {
    const canvas = element("canvas", { tabIndex: 0 });
    const caption = element("figcaption");
    const place = element("p", { className: "place" });
    const figure = element("figure", {}, [caption, element("div", { className: "canvas" }, [canvas]), place]);
    root.append(figure);
    const pane = new Pane(new niivue.Niivue(OPTIONS), { figure, canvas, caption, place });
    await pane.viewer.attachToCanvas(canvas);
    return pane;
  }

  constructor(viewer, parts) {
    Object.assign(this, { viewer, setup: null, plane: 0, clicked: NaN, ...parts });
    this.onStroke = () => {};
    this.onWindow = () => {};
    viewer.onLocationChange = (location) => this._moved(location);
    viewer.onDrawingChanged = (action) => { if (action === "draw") this.onStroke(); };
    viewer.onIntensityChange = (image) => this.onWindow(image.cal_min, image.cal_max);
  }

  /** Shows a scan, the bytes of a NIfTI file, in place of the one before, without labels, as one of `VIEWS`. */
  async load(scan, setup, { view, window: [low, high] }) {
    const file = new File([scan], "scan.nii.gz");
    const image = await niivue.NVImage.loadFromFile({ file, name: file.name, colormap: "gray" });
    this.viewer.closeDrawing();
    for (const before of [...this.viewer.volumes]) this.viewer.removeVolume(before);
    this.setup = setup;
    this.plane = thickestPlane(setup);
    this.viewer.opts.sliceType = view; // this and the window before the first drawing: each takes long without a GPU
    Object.assign(image, { cal_min: low, cal_max: high });
    this.viewer.addVolume(image);
    this.viewer.scene.crosshairPos = [0.5, 0.5, 0.5];
  }

  close() {
    this.viewer.gl.getExtension("WEBGL_lose_context")?.loseContext();
    this.figure.remove();
  }

  get bitmap() {
    return this.viewer.drawBitmap;
  }

  /** Whether a stroke is under way. */
  get busy() {
    return Number.isFinite(this.viewer.drawPenLocation[0]);
  }

  /** The voxel under the crosshair. */
  get voxel() {
    return [...this.viewer.frac2vox(this.viewer.scene.crosshairPos)];
  }

  setBitmap(bitmap) {
    this.viewer.createEmptyDrawing();
    this.viewer.drawBitmap.set(bitmap);
    this.refresh();
  }

  refresh() {
    this.viewer.refreshDrawing(true);
    this._moved({ vox: this.voxel });
  }

  /** Writes a class's number into voxels. */
  paint(places, number) {
    for (const at of places) this.bitmap[at] = number;
    this.refresh();
  }

  setColors(classes, hidden) {
    const colors = classes.map((each) => rgb(each.color));
    this.viewer.setDrawColormap({
      R: [0, ...colors.map((color) => color[0])],
      G: [0, ...colors.map((color) => color[1])],
      B: [0, ...colors.map((color) => color[2])],
      A: [0, ...classes.map((each) => (hidden.has(each.value) ? 0 : 255))],
      labels: ["", ...classes.map((each) => each.name)],
    });
  }

  setOpacity(opacity, outlines) {
    this.viewer.drawRimOpacity = outlines ? Math.max(opacity, 0.01) : -1;
    this.viewer.setDrawOpacity(outlines ? 0.001 : opacity);
  }

  setWindow(low, high) {
    const [image] = this.viewer.volumes;
    if (image.cal_min === low && image.cal_max === high) return;
    Object.assign(image, { cal_min: low, cal_max: high });
    this.viewer.updateGLVolume();
  }

  setPen(number, { filled = false, size = 1 } = {}) {
    this.viewer.opts.penSize = filled ? 1 : size;
    this.viewer.setPenValue(number, filled);
    this.viewer.setDrawingEnabled(true);
  }

  setIdle() {
    this.viewer.setDrawingEnabled(false);
  }

  /** Shows the place that another pane shows. */
  follow(other) {
    this.viewer.scene.crosshairPos = [...other.viewer.scene.crosshairPos];
    this.refresh();
  }

  /** Moves the crosshair by slices of the plane that was clicked last. */
  step(slices) {
    const move = [0, 0, 0];
    move[axisOf(this.plane)] = slices;
    this.viewer.moveCrosshairInVox(...move);
  }

  /** Whether the last click was in a slice, not in the 3D view. */
  get inSlice() {
    return this.clicked >= 0 && this.clicked < 3;
  }

  _moved({ vox, axCorSag }) {
    if (!this.setup || !this.viewer.volumes.length) return;
    if (axCorSag !== undefined && !Number.isNaN(axCorSag)) this.clicked = axCorSag;
    if (axCorSag >= 0 && axCorSag < 3) this.plane = axCorSag;
    const { shape, affine } = this.setup;
    const voxel = [...vox].slice(0, 3).map(Math.round);
    const millimeters = affine.slice(0, 3).map((row) => row[3] + voxel.reduce((sum, at, axis) => sum + row[axis] * at, 0));
    const value = this.viewer.volumes[0].getValue(...voxel);
    const number = this.bitmap?.[voxel[0] + shape[0] * (voxel[1] + shape[1] * voxel[2])] ?? 0;
    const label = number ? ` · ${this.setup.classes[number - 1].name}` : "";
    const slice = `${PLANES[this.plane]} ${voxel[axisOf(this.plane)] + 1}/${shape[axisOf(this.plane)]}`;
    const position = millimeters.map((each) => each.toFixed(1)).join(" ");
    this.place.textContent = `${slice} · ${position} mm · value ${Number(value.toPrecision(5))}${label}`;
  }
}
