"""A label map by an exported model, with onnxruntime, numpy and nibabel alone: no torch, no inflate3d.

    inflate3d export runs/Liver exported
    python examples/onnx_without_torch.py exported scan.nii.gz labels.nii.gz

It gives what `inflate3d predict --no-postprocessing` gives; docs/export.md explains each step.
"""

import json
import sys
from itertools import count
from math import gcd
from pathlib import Path

import nibabel as nib
import numpy as np
import onnxruntime
from nibabel import orientations


def weights(before, after, scale=1.0, points=1, outside="edge"):
    """The matrix that interpolates an axis of `before` pixels at `after` places, as the mean of `points` at each."""
    middles, inner = ((2 * np.arange(n) + 1) / n - 1 for n in (after, points))  # from -1 to 1, edge to edge
    places = (scale * (middles[:, None] + inner / after) + 1) * before / 2 - 0.5
    if outside == "edge":
        places = places.clip(0, before - 1)
    return np.maximum(0, 1 - abs(places[..., None] - np.arange(before))).mean(1).astype(np.float32)


def value_range(channel, rule):
    """The values of a modality that become 0 and 1."""
    if not channel.any():
        return 0, 1
    if rule["kind"] == "clip":
        return rule["low"], rule["high"]
    step = next(step for step in count(max(1, channel.size // 200_000)) if gcd(step, channel.size) == 1)
    low, high = np.percentile(channel.flat[::step], [0.5, 99.5])
    return low, high if high > low else low + 1


def label_values(logits, model):
    """The label value of each pixel."""
    values, regions = np.array([each["value"] for each in model["classes"]], np.int16), model["plan"]["regions"]
    if not regions:
        return values[logits.argmax(0)]
    if regions["order"]:  # later regions are written over earlier ones
        labels = np.zeros(logits.shape[1:], np.int16)
        for region, value in zip(logits, regions["order"], strict=True):
            labels[region > 0] = value
        return labels
    held = np.array([[value in region for region in regions["values"].values()] for value in values], np.float32)
    return values[np.tensordot(held, logits, 1).argmax(0)]


def segment(folder, image):
    """The label map of a scan, on its own grid."""
    model = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(folder / model["file"], providers=["CPUExecutionProvider"])
    (windows,), size = model["windows"], model["input"]["shape"][-2:]

    # modality, depth, rows, columns
    own, wanted = orientations.io_orientation(image.affine), orientations.axcodes2ornt(windows["axes"])
    turn, shape = orientations.ornt_transform(own, wanted), image.shape[:3]
    voxels = np.asarray(image.dataobj).reshape(*shape, -1)
    voxels = np.moveaxis(orientations.apply_orientation(voxels, turn), -1, 0)
    spacing = nib.affines.voxel_sizes(image.affine @ orientations.inv_ornt_aff(turn, shape))
    depth, *plane = voxels.shape[1:]

    # slices at the model's distance, intensities from 0 to 1, pixels of the model's input
    slices = max(1, round(depth * spacing[0] / windows["slice_spacing"])) if windows["slice_spacing"] else depth
    sides = field = np.array(plane) * spacing[1:]
    if windows["pixel_spacing"]:
        field = np.array(size) * windows["pixel_spacing"]
        field = field * max(1, (sides / field).max())
    shrink = np.maximum(1, np.ceil(field / sides * plane / size / 1.4 - 1e-3)).astype(int)
    rows, columns = map(weights, plane, size, field / sides, shrink, ["zero", "zero"])
    scan = []
    for channel, rule in zip(voxels, model["plan"]["normalization"], strict=True):
        low, high = value_range(channel, rule)
        channel = np.tensordot(weights(depth, slices), channel.astype(np.float32), 1)
        scan.append(rows @ ((channel - low) / (high - low)).clip(0, 1).astype(np.float32) @ columns.T)

    # windows, or the whole scan as one slab, to logits, and back to the scan's own voxels
    scan = np.stack(scan)[None]
    if windows["reach"]:
        logits = session.run(None, {"windows": scan})[0][0].swapaxes(0, 1)
    else:
        shown = (np.arange(slices)[:, None] + windows["offsets"]).clip(0, slices - 1)
        logits = np.stack([session.run(None, {"windows": scan[:, :, each]})[0][0] for each in shown])
    logits = np.tensordot(weights(slices, depth), logits, 1)
    rows, columns = map(weights, size, plane, sides / field)
    labels = np.stack([label_values(rows @ each @ columns.T, model) for each in logits])
    return orientations.apply_orientation(labels, orientations.ornt_transform(wanted, own))


if __name__ == "__main__":
    exported, scan_file, label_file = map(Path, sys.argv[1:])
    opened = nib.load(scan_file)
    nib.save(nib.Nifti1Image(segment(exported, opened), opened.affine), label_file)
