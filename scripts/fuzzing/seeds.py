"""Small valid files of every format that we read, written by the libraries that write them for everybody."""

from __future__ import annotations

import io
import json
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK
import torch
from nibabel.nifti1 import Nifti1Extension
from safetensors.torch import save

from inflate3d.io import write_labels
from inflate3d.io.formats import DICOM_LABELS
from inflate3d.io.segments import Segments

SHAPE = (5, 6, 4)
AFFINE = np.array([[-0.8, 0.1, 0, 5], [0, 0.9, 0, -3], [0, 0, 2.5, 40], [0, 0, 0, 1.0]])


@dataclass(frozen=True)
class Seed:
    """A valid input.

    Attributes:
        files: Path below its folder to content.
        entry: Path of what a reader is given; empty for the folder itself.
        targets: Paths of the files to be mutated.
    """

    files: dict[str, bytes]
    entry: str
    targets: tuple[str, ...]


def seeds_of(format_name: str) -> list[Seed]:
    """The seeds of a format; written anew for each process."""
    return _WRITERS[format_name]()


def _gathered(folder: Path, entry: str = "", targets: tuple[str, ...] | None = None) -> Seed:
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
    return Seed(files, entry, targets or tuple(files))


def _written(write: Callable[[Path], Any], entry: str = "", targets: tuple[str, ...] | None = None) -> Seed:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        return _gathered(Path(folder), entry, targets)


def _voxels(dtype: Any = np.int16, channels: int = 1) -> np.ndarray:
    shape = SHAPE if channels == 1 else (*SHAPE, channels)
    return (np.arange(np.prod(shape)).reshape(shape) % 120).astype(dtype)


def _nifti() -> list[Seed]:
    found = []
    for suffix in (".nii", ".nii.gz", ".hdr", ".hdr.gz"):
        for kind, dtype, channels in ((1, np.int16, 1), (1, np.float32, 2), (2, np.uint8, 1)):
            single = (nibabel.Nifti1Image, nibabel.Nifti2Image)[kind - 1]
            pair = (nibabel.Nifti1Pair, nibabel.Nifti2Pair)[kind - 1]
            image = (pair if ".hdr" in suffix else single)(_voxels(dtype, channels), AFFINE)
            if dtype == np.int16 and suffix == ".nii":
                image.header.extensions.append(Nifti1Extension("comment", b"an extension"))

            def write(folder: Path, image: Any = image, suffix: str = suffix) -> None:
                if ".hdr" not in suffix:
                    return image.to_filename(folder / f"scan{suffix}")
                names = {"header": f"scan{suffix}", "image": f"scan{suffix.replace('.hdr', '.img')}"}
                image.to_file_map({part: nibabel.FileHolder(str(folder / name)) for part, name in names.items()})

            found.append(_written(write, f"scan{suffix}"))
    return found


def _itk_image(dtype: Any, channels: int) -> SimpleITK.Image:
    array = _voxels(dtype, channels)
    array = array.transpose(2, 1, 0) if channels == 1 else array.transpose(2, 1, 0, 3)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array), isVector=channels > 1)
    image.SetSpacing((0.8, 0.9, 2.5))
    image.SetOrigin((5.0, -3.0, 40.0))
    return image


def _itk(suffixes: tuple[str, ...]) -> Callable[[], list[Seed]]:
    def write() -> list[Seed]:
        found = []
        for suffix in suffixes:
            for dtype, channels, compressed in ((np.int16, 1, False), (np.uint8, 1, True), (np.float32, 2, False)):
                image = _itk_image(dtype, channels)
                found.append(_written(partial(_write_image, image, f"scan{suffix}", compressed), f"scan{suffix}"))
        spread = _spread(found[0], suffixes)
        return [*found, *spread]

    return write


def _write_image(image: SimpleITK.Image, name: str, compressed: bool, folder: Path) -> None:
    SimpleITK.WriteImage(image, str(folder / name), compressed)


def _spread(seed: Seed, suffixes: tuple[str, ...]) -> list[Seed]:
    """Headers whose voxels are spread over a file for each slice, named by a list and by a pattern."""
    voxels = _voxels(np.int16).transpose(2, 1, 0)
    slices = {f"slice{number}.raw": plane.tobytes() for number, plane in enumerate(voxels)}
    if ".mhd" in suffixes:
        start = (
            "ObjectType = Image\nNDims = 3\nDimSize = 5 6 4\nElementSpacing = 0.8 0.9 2.5\nElementType = MET_SHORT\n"
        )
        headers = {"LIST": "ElementDataFile = LIST\n" + "".join(f"{name}\n" for name in slices)}
        headers["pattern"] = "ElementDataFile = slice%d.raw 0 3 1\n"
        entry = "scan.mhd"
    else:
        start = "NRRD0004\ntype: int16\ndimension: 3\nsizes: 5 6 4\nencoding: raw\nendian: little\n"
        headers = {"LIST": "data file: LIST\n" + "".join(f"{name}\n" for name in slices)}
        headers["pattern"] = "data file: slice%d.raw 0 3 1\n"
        entry = "scan.nhdr"
    return [Seed({entry: (start + text).encode(), **slices}, entry, (entry,)) for text in headers.values()]


def _dicom() -> list[Seed]:
    return [
        _written(lambda folder, c=compressor: _write_series(folder, c)) for compressor in (None, "JPEG2000", "JPEG")
    ]


def _write_series(folder: Path, compressor: str | None) -> None:
    for index in range(3):
        array = _voxels(np.int16 if compressor != "JPEG" else np.uint8).transpose(2, 1, 0)[index : index + 1]
        image = SimpleITK.GetImageFromArray(np.ascontiguousarray(np.tile(array, (1, 4, 4))))
        image.SetSpacing((0.8, 0.9, 1.0))
        image.SetOrigin((5.0, -3.0, 2.5 * index))
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0060": "CT",
            "0008|103e": "a series",
            "0020|000d": "1.2.3",
            "0020|000e": "1.2.3.4",
            "0020|0013": str(index),
            "0020|0032": f"5\\-3\\{2.5 * index}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|0030": "0.9\\0.8",
            "0028|1052": "-1024",
            "0028|1053": "1",
        }
        for tag, text in tags.items():
            image.SetMetaData(tag, text)
        writer = SimpleITK.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.KeepOriginalImageUIDOn()
        if compressor:
            writer.UseCompressionOn()
            writer.SetCompressor(compressor)
        writer.SetFileName(str(folder / f"IM{index}.dcm"))
        writer.Execute(image)


def _dicom_objects() -> list[Seed]:
    """A SEG of either type, an RTSTRUCT, and a multi-frame image, all of one series."""
    labels = np.zeros((20, 24, 3), np.uint8)
    labels[2:9, 3:12, :2], labels[4:6, 5:8, 1] = 1, 2
    segments = Segments({1: "liver", 2: "tumor"})
    found = []
    for suffix in DICOM_LABELS:
        with tempfile.TemporaryDirectory() as folder:
            _write_series(Path(folder), None)
            write_labels(Path(folder, f"labels{suffix}"), labels, like=Path(folder), segments=segments)
            content = Path(folder, f"labels{suffix}").read_bytes()
        found.append(Seed({f"labels{suffix}": content}, f"labels{suffix}", (f"labels{suffix}",)))
    return [*found, _written(_write_frames, "frames.dcm")]


def _write_frames(folder: Path) -> None:
    SimpleITK.WriteImage(_itk_image(np.uint16, 1), str(folder / "frames.dcm"))


def _json(document: Any) -> bytes:
    return json.dumps(document, indent=1).encode()


_CASES = ("a", "b", "c")


def _msd() -> list[Seed]:
    listing = {
        "name": "Toys",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "liver"},
        "training": [{"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"} for case in _CASES],
    }
    files = {f"{part}/{case}.nii.gz": b"" for case in _CASES for part in ("imagesTr", "labelsTr")}
    return [Seed({"dataset.json": _json(listing), **files}, "", ("dataset.json",))]


def _nnunet() -> list[Seed]:
    listing = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "liver": 1, "ignore": 2},
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    files = {f"imagesTr/{case}_{channel:04d}.nii.gz": b"" for case in _CASES for channel in (0, 1)}
    files |= {f"labelsTr/{case}.nii.gz": b"" for case in _CASES}
    images = {case: [f"imagesTr/{case}_{channel:04d}.nii.gz" for channel in (0, 1)] for case in _CASES}
    listed = {"dataset": {case: {"images": images[case], "label": f"labelsTr/{case}.nii.gz"} for case in _CASES}}
    folds = _json([{"train": ["a", "b"], "val": ["c"]}, {"train": ["b", "c"], "val": ["a"]}])
    targets = ("dataset.json", "splits_final.json")
    return [
        Seed({"dataset.json": _json(listing | extra), "splits_final.json": folds, **files}, "", targets)
        for extra in ({}, listed)
    ]


def _folder() -> list[Seed]:
    listing = b"name: Toys\nmodalities: [CT]\nclasses: {0: background, 1: liver}\nmerge: {3: 1}\nignore: 9\n"
    listing += b"cases: cases.csv\n"
    parts = dict(zip(_CASES, ("train", "train", "validation"), strict=True))
    rows = [f"{case},{case}.nii.gz,{case}_label.nii.gz,{part},g{case}" for case, part in parts.items()]
    rows.insert(0, "case,image,label,split,group")
    files = {f"{case}{part}.nii.gz": b"" for case in _CASES for part in ("", "_label")}
    targets = ("dataset.yaml", "cases.csv")
    return [Seed({"dataset.yaml": listing, "cases.csv": "\n".join(rows).encode(), **files}, "", targets)]


def _split() -> list[Seed]:
    split = {"train": ["a", "b"], "validation": ["c"], "test": [], "source": "x"}
    return [Seed({"split.json": _json(split)}, "split.json", ("split.json",))]


def _store_folder(folder: Path) -> None:
    from inflate3d.datasets.layouts import read_dataset
    from inflate3d.datasets.phantom import write_phantoms
    from inflate3d.preparation.prepare import prepare

    write_phantoms(folder / "data", 2)
    prepare(read_dataset(folder / "data"), folder / "store", workers=1)


def _store() -> list[Seed]:
    whole = _written(_store_folder)
    files = {name.removeprefix("store/"): content for name, content in whole.files.items() if name.startswith("store/")}
    files = {name: content for name, content in files.items() if not name.startswith(".")}
    return [Seed(files, "", tuple(files))]


def _plan() -> list[Seed]:
    return [Seed({"plan.json": _store()[0].files["plan.json"]}, "plan.json", ("plan.json",))]


def _config() -> list[Seed]:
    from inflate3d.config import RunConfig

    def write(folder: Path) -> None:
        RunConfig(dataset=Path("data"), store=Path("store")).write(folder / "config.yaml")

    return [_written(write, "config.yaml")]


def _preset() -> list[Seed]:
    from inflate3d.presets import preset

    text = (Path(preset.__file__).parent / "bcv.yaml").read_bytes()
    own = b"description: mine\nextends: [bcv]\ntraining: {steps: 100}\nplan: {}\n"
    return [Seed({"preset.yaml": content}, "preset.yaml", ("preset.yaml",)) for content in (text, own)]


def _arms() -> list[Seed]:
    text = b"five: {}\none: {model: {depth: 1}}\nlonger: {model: {depth: 1}, training: {steps: 10000}}\n"
    return [Seed({"arms.yaml": text}, "arms.yaml", ("arms.yaml",))]


def _model() -> list[Seed]:
    import inflate3d
    from inflate3d.preparation.plan import Plan

    def write(folder: Path) -> None:
        (folder / "plan.json").write_bytes(_plan()[0].files["plan.json"])
        encoder = inflate3d.create_encoder("resnet10t", depth=3, image_size=64, weights="none")
        model = inflate3d.create_model(encoder=encoder, num_classes=4, decoder_channels=8, detail_channels=4)
        model.plan = Plan.read(folder / "plan.json")
        (folder / "plan.json").unlink()
        model.save(folder)

    return [_written(write)]


def _tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "patch_embed.proj.weight": torch.rand(4, 3, 2, 2),
        "blocks.0.attn.qkv.weight": torch.rand(12, 4).half(),
        "pos_embed": torch.rand(1, 5, 4),
        "counter": torch.tensor(3),
    }


def _torch_file(document: Any, *, zipped: bool = True) -> bytes:
    stream = io.BytesIO()
    torch.save(document, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def _weights() -> list[Seed]:
    import argparse

    tensors = _tensors()
    nested = {"model": OrderedDict(tensors), "epoch": 3, "args": argparse.Namespace(seed=1, name="x")}
    files = {
        "plain.pth": _torch_file(tensors),
        "nested.pth": _torch_file(nested),
        "old.pth": _torch_file(tensors, zipped=False),
        "plain.safetensors": save(tensors, {"format": "pt"}),
    }
    return [Seed({name: content}, name, (name,)) for name, content in files.items()]


def _scores() -> list[Seed]:
    from inflate3d.evaluation.scores import Scores

    scores = Scores(
        cases=_CASES,
        classes=("liver", "tumor"),
        measured={
            "dice": np.array([[0.9, np.nan], [0.8, 0.1], [0.7, 0.5]]),
            "hd95": np.ones((3, 2)),
            "nsd": np.ones((3, 2)),
        },
        micro_dice=np.array([0.8, 0.4]),
        tolerance=2.0,
        seconds=np.array([1.0, 2.0, np.nan]),
        groups={"site": ("x", "x", "y")},
    )
    return [_written(scores.write, "", ("scores.json",))]


def _tables() -> list[Seed]:
    log = b"step,loss,dice,seconds\n1,0.9,,1.5\n2,0.8,0.4,3.0\n3,0.7,,4.5\n"
    groups = b"case,site,scanner\na,x,1\nb,y,\nc,x,2\n"
    return [Seed({name: text}, name, (name,)) for name, text in (("metrics.csv", log), ("groups.csv", groups))]


_WRITERS: dict[str, Callable[[], list[Seed]]] = {
    "nifti": _nifti,
    "nrrd": _itk((".nrrd", ".nhdr")),
    "metaimage": _itk((".mha", ".mhd")),
    "dicom": _dicom,
    "dicom-objects": _dicom_objects,
    "msd": _msd,
    "nnunet": _nnunet,
    "folder": _folder,
    "split": _split,
    "plan": _plan,
    "store": _store,
    "config": _config,
    "preset": _preset,
    "arms": _arms,
    "model": _model,
    "network": _model,
    "weights": _weights,
    "scores": _scores,
    "tables": _tables,
}

FORMATS = tuple(_WRITERS)
