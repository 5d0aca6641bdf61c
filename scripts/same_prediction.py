"""Does one scan get one label map, whatever format and orientation it is stored in? Prints a Markdown table.

    python scripts/same_prediction.py RUN SCAN [SCAN ...]

Each scan is stored anew in every format and in three orientations, predicted, and its label map compared with that of
the original file, voxel for voxel, on the original's grid. For several modalities (4D) DICOM is left out.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from inflate3d import Predictor, Volume, read_volume
from inflate3d.inference.batch import predict_files
from inflate3d.io import check_same_grid, read_labels, write_volume

ORIENTATIONS = ("RAS", "LPI", "PSR")
SUFFIXES = (".nii.gz", ".nrrd", ".mha")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder, or a model folder")
    parser.add_argument("scans", type=Path, nargs="+", help="scans that the model fits")
    options = parser.parse_args()
    predictor = Predictor.load(options.run)
    columns = ["scan", "own file: labeled voxels", *(f"{suffix}: differing" for suffix in (*SUFFIXES, "DICOM"))]
    print("| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns))
    for scan in options.scans:
        print("| " + " | ".join(_row(predictor, scan)) + " |", flush=True)


def _row(predictor: Predictor, scan: Path) -> list[str]:
    volume = read_volume(scan)
    with tempfile.TemporaryDirectory() as name:
        (result,) = predict_files(predictor, scan, name)
        expected = read_labels(str(result.file))
    check_same_grid(expected, volume)
    row = [scan.name, f"{np.count_nonzero(expected.array)} of {expected.array.size}"]
    for suffix in SUFFIXES:
        row.append(_differing(predictor, volume, expected, _file_writer(suffix)))
    storable = len(volume.array) == 1 and np.array_equal(volume.array, np.rint(volume.array))
    storable = storable and volume.array.min() >= -(2**15) and volume.array.max() < 2**15
    row.append(_differing(predictor, volume, expected, _write_series) if storable else "values don't fit")
    return row


def _file_writer(suffix: str) -> Callable[[Path, Volume], Path]:
    def write(folder: Path, volume: Volume) -> Path:
        path = folder / f"scan{suffix}"
        write_volume(path, volume)
        return path

    return write


def _differing(predictor: Predictor, volume: Volume, expected: Volume, write: Callable[[Path, Volume], Path]) -> str:
    """Voxels that differ in each orientation; the label file must lie on the very grid of its scan."""
    counts = []
    for codes in ORIENTATIONS:
        with tempfile.TemporaryDirectory() as name:
            path = write(Path(name), volume.reorient(codes))
            (result,) = predict_files(predictor, path, Path(name, "out"))
            labels = read_labels(str(result.file))
            check_same_grid(labels, read_volume(path))
        back = labels.reorient("".join(_codes(expected)))
        check_same_grid(back, expected)
        counts.append(np.count_nonzero(back.array != expected.array))
    return ", ".join(f"{count} ({codes})" for count, codes in zip(counts, ORIENTATIONS, strict=True))


def _codes(volume: Volume) -> tuple[str, ...]:
    import nibabel

    return tuple(map(str, nibabel.aff2axcodes(volume.affine)))


def _write_series(folder: Path, volume: Volume) -> Path:
    """Writes one DICOM file for each slice along the last axis."""
    import SimpleITK

    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine
    spacing = volume.spacing
    row, column = lps[:3, 0] / spacing[0], lps[:3, 1] / spacing[1]
    series = folder / "series"
    series.mkdir()
    for index in range(volume.shape[2]):
        plane = np.rint(volume.array[0, :, :, index].T).astype(np.int16)
        image = SimpleITK.GetImageFromArray(plane[np.newaxis])
        position = lps @ (0, 0, index, 1)
        for tag, text in {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0060": "CT",
            "0020|000d": "1.2.3",
            "0020|000e": "1.2.3.4",
            "0020|0013": str(index + 1),
            "0020|0032": "\\".join(f"{number:.10g}" for number in position[:3]),
            "0020|0037": "\\".join(f"{number:.10g}" for number in (*row, *column)),
            "0028|0030": f"{spacing[1]:.10g}\\{spacing[0]:.10g}",
        }.items():
            image.SetMetaData(tag, text)
        image.SetSpacing([spacing[0], spacing[1], 1.0])
        image.SetOrigin(position[:3].tolist())
        image.SetDirection(np.stack([row, column, np.cross(row, column)], 1).ravel().tolist())
        writer = SimpleITK.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(series / f"{index:04d}.dcm"))
        writer.Execute(image)
    return series


if __name__ == "__main__":
    main()
