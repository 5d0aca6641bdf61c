// What drawing does to a label map: plain functions of bytes, without the page and without NiiVue.
//
// A bitmap holds a class's number for each voxel, the first axis fastest. Axes are 0 left-right, 1 posterior-anterior,
// 2 inferior-superior; a slice is named by the axis that it is perpendicular to and its index along it.

function strides(shape) {
  return [1, shape[0], shape[0] * shape[1]];
}

function planeOf(shape, axis) {
  const step = strides(shape);
  const [a, b] = [0, 1, 2].filter((other) => other !== axis);
  return { width: shape[a], height: shape[b], along: step[a], across: step[b], through: step[axis] };
}

/** The bytes of a slice as an array of its own, row by row. */
function sliceOf(bitmap, plane, index) {
  const slice = new Uint8Array(plane.width * plane.height);
  for (let y = 0, at = 0; y < plane.height; y++) {
    let from = index * plane.through + y * plane.across;
    for (let x = 0; x < plane.width; x++, at++, from += plane.along) slice[at] = bitmap[from];
  }
  return slice;
}

/**
 * The voxels of one slice that are connected with a voxel by its own value, or null if they are background that reaches
 * the slice's edge: an outline that isn't closed fills nothing.
 */
export function closedRegion(bitmap, shape, axis, voxel) {
  const plane = planeOf(shape, axis);
  const [a, b] = [0, 1, 2].filter((other) => other !== axis);
  const base = voxel[axis] * plane.through;
  const slice = sliceOf(bitmap, plane, voxel[axis]);
  const value = slice[voxel[a] + voxel[b] * plane.width];
  const seen = new Uint8Array(slice.length);
  const waiting = [voxel[a] + voxel[b] * plane.width];
  const found = [];
  seen[waiting[0]] = 1;
  while (waiting.length) {
    const at = waiting.pop();
    const [x, y] = [at % plane.width, Math.floor(at / plane.width)];
    const inside = [x > 0, x < plane.width - 1, y > 0, y < plane.height - 1];
    if (value === 0 && inside.includes(false)) return null;
    found.push(base + x * plane.along + y * plane.across);
    [at - 1, at + 1, at - plane.width, at + plane.width].forEach((next, way) => {
      if (inside[way] && !seen[next] && slice[next] === value) {
        seen[next] = 1;
        waiting.push(next);
      }
    });
  }
  return Uint32Array.from(found);
}

/** Squared distances along one line: the lower envelope of parabolas (Felzenszwalb and Huttenlocher, 2012). */
function transformLine(values, spacing, count) {
  const places = new Int32Array(count);
  const borders = new Float64Array(count + 1);
  const result = new Float64Array(count);
  const square = spacing * spacing;
  let last = -1;
  for (let q = 0; q < count; q++) {
    if (values[q] === Infinity) continue;
    let border = -Infinity;
    while (last >= 0) {
      const p = places[last];
      border = (values[q] - values[p] + square * (q * q - p * p)) / (2 * square * (q - p));
      if (border > borders[last]) break;
      last--;
      border = -Infinity;
    }
    places[++last] = q;
    borders[last] = border;
    borders[last + 1] = Infinity;
  }
  if (last < 0) return result.fill(Infinity);
  for (let q = 0, at = 0; q < count; q++) {
    while (borders[at + 1] < q) at++;
    result[q] = square * (q - places[at]) ** 2 + values[places[at]];
  }
  return result;
}

/** For each pixel the distance in millimeters to the nearest one that is set. */
export function distances(set, width, height, spacing) {
  const squared = new Float64Array(width * height);
  const column = new Float64Array(height);
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) column[y] = set[x + y * width] ? 0 : Infinity;
    const done = transformLine(column, spacing[1], height);
    for (let y = 0; y < height; y++) squared[x + y * width] = done[y];
  }
  for (let y = 0; y < height; y++) {
    squared.set(transformLine(squared.slice(y * width, (y + 1) * width), spacing[0], width), y * width);
  }
  return squared.map(Math.sqrt);
}

/** A slice's shape of one class: signed distance to its edge, negative inside, and its center. */
function shapeIn(slice, number, plane, spacing) {
  const inside = slice.map((value) => Number(value === number));
  let [count, x, y] = [0, 0, 0];
  inside.forEach((set, at) => {
    if (!set) return;
    count++;
    x += at % plane.width;
    y += Math.floor(at / plane.width);
  });
  if (!count) return null;
  const toIt = distances(inside, plane.width, plane.height, spacing);
  const fromIt = distances(inside.map((set) => 1 - set), plane.width, plane.height, spacing);
  return { signed: toIt.map((distance, at) => distance - fromIt[at]), center: [x / count, y / count] };
}

/** The signed distance at a place between pixels, linear in both directions. */
function valueAt(shape, plane, x, y) {
  const left = Math.min(Math.max(Math.floor(x), 0), plane.width - 1);
  const low = Math.min(Math.max(Math.floor(y), 0), plane.height - 1);
  const right = Math.min(left + 1, plane.width - 1);
  const high = Math.min(low + 1, plane.height - 1) * plane.width;
  const [dx, dy] = [Math.min(Math.max(x - left, 0), 1), Math.min(Math.max(y - low, 0), 1)];
  const { signed } = shape;
  const below = signed[left + low * plane.width] * (1 - dx) + signed[right + low * plane.width] * dx;
  return below * (1 - dy) + (signed[left + high] * (1 - dx) + signed[right + high] * dx) * dy;
}

/**
 * The background voxels that complete a class between the slices where it is drawn: shape-based interpolation (Raya and
 * Udupa, 1990) of signed distances, each shape moved along the line between both centers. Other classes are kept.
 */
export function interpolated(bitmap, shape, spacing, axis, number) {
  const plane = planeOf(shape, axis);
  const inPlane = spacing.filter((_, other) => other !== axis);
  const drawn = [];
  for (let index = 0; index < shape[axis]; index++) {
    if (sliceOf(bitmap, plane, index).includes(number)) drawn.push(index);
  }
  const found = [];
  for (let pair = 1; pair < drawn.length; pair++) {
    const [low, high] = [drawn[pair - 1], drawn[pair]];
    if (high - low < 2) continue;
    const [first, second] = [low, high].map((index) => shapeIn(sliceOf(bitmap, plane, index), number, plane, inPlane));
    for (let index = low + 1; index < high; index++) {
      const part = (index - low) / (high - low);
      const moves = [first, second].map((each) => [0, 1].map((way) =>
        first.center[way] + part * (second.center[way] - first.center[way]) - each.center[way]));
      for (let y = 0; y < plane.height; y++) {
        for (let x = 0; x < plane.width; x++) {
          const signed = (1 - part) * valueAt(first, plane, x - moves[0][0], y - moves[0][1])
            + part * valueAt(second, plane, x - moves[1][0], y - moves[1][1]);
          const at = index * plane.through + x * plane.along + y * plane.across;
          if (signed <= 0 && bitmap[at] === 0) found.push(at);
        }
      }
    }
  }
  return Uint32Array.from(found);
}

/** Number of voxels of each class. */
export function counts(bitmap) {
  const found = new Float64Array(256);
  for (let at = 0; at < bitmap.length; at++) found[bitmap[at]]++;
  return found;
}

/** Dice of each class in two label maps, by number; undefined for classes that both lack. */
export function agreement(first, second) {
  const both = new Float64Array(256);
  for (let at = 0; at < first.length; at++) if (first[at] === second[at]) both[first[at]]++;
  const [one, other] = [counts(first), counts(second)];
  return Array.from(both, (count, number) => (one[number] + other[number] ? (2 * count) / (one[number] + other[number]) : undefined));
}

/** The steps that were drawn since a label map was opened, to undo and redo. */
export class History {
  constructor(bitmap, limit = 100) {
    this.last = bitmap.slice();
    this.limit = limit;
    this.steps = [];
    this.undone = [];
  }

  /** Remembers what differs from the bitmap seen last; false if nothing does. */
  record(bitmap) {
    const places = [];
    for (let at = 0; at < bitmap.length; at++) if (bitmap[at] !== this.last[at]) places.push(at);
    if (!places.length) return false;
    const before = Uint8Array.from(places, (at) => this.last[at]);
    const after = Uint8Array.from(places, (at) => bitmap[at]);
    this.steps.push({ places: Uint32Array.from(places), before, after });
    if (this.steps.length > this.limit) this.steps.shift();
    this.undone = [];
    this._apply([this.last], this.steps.at(-1).places, after);
    return true;
  }

  /** Takes the last step back in a bitmap; false if there is none. */
  undo(bitmap) {
    return this._move(this.steps, this.undone, "before", bitmap);
  }

  redo(bitmap) {
    return this._move(this.undone, this.steps, "after", bitmap);
  }

  _move(from, to, values, bitmap) {
    const step = from.pop();
    if (!step) return false;
    to.push(step);
    this._apply([bitmap, this.last], step.places, step[values]);
    return true;
  }

  _apply(bitmaps, places, values) {
    for (const bitmap of bitmaps) places.forEach((at, number) => { bitmap[at] = values[number]; });
  }
}
