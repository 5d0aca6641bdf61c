"""Labeled phantoms: generated scans on which a model needs the neighboring slices.

Vessels run through the whole scan; a lesion is like two or three slices of a vessel. In a single slice they look alike:
same shape, brightness and places. Within five slices, a vessel continues and a lesion ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int16, Integer, UInt8

from inflate3d.atomic import atomic_path
from inflate3d.datasets.case import Case, Dataset
from inflate3d.datasets.msd import write_msd_listing
from inflate3d.errors import ConfigError
from inflate3d.volume import Volume

Modality = Literal["CT", "MRI"]

CLASSES = {0: "background", 1: "organ", 2: "gland", 3: "vessel", 4: "lesion"}
"""Class name by label value."""

_ORGAN, _GLAND, _VESSEL, _LESION = 1, 2, 3, 4

_ORIENTATIONS = ("RAS", "LPS", "LAS", "PIR", "LSA", "RAS")
"""Orientations in which the cases are stored, in turn; the last one is tilted."""

_REACH = 2
"""Slices to either side in which a vessel continues and a lesion must end."""

_GAP = 3.0
"""Least distance between the walls of two vessels or lesions in neighboring slices, mm."""


@dataclass(frozen=True)
class _Grid:
    """Voxel positions in millimeters from the middle, in the frame ``(D, H, W)``: up, right, front."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]

    def axis(self, number: int) -> Float[np.ndarray, "n"]:
        size = self.shape[number]
        return ((np.arange(size) - (size - 1) / 2) * self.spacing[number]).astype(np.float32)

    def mesh(self) -> list[Float[np.ndarray, "..."]]:
        return list(np.meshgrid(*(self.axis(number) for number in range(3)), indexing="ij", sparse=True))

    def extent(self) -> Float[np.ndarray, "3"]:
        return np.multiply(self.shape, self.spacing)


@dataclass(frozen=True)
class _Strand:
    """A disc followed through slices: a vessel, or the piece of one that makes a lesion.

    Attributes:
        centers: In-plane position in each of its slices, in mm from the center.
        radius: Millimeters.
        brightness: From 0 (air) to 1 (the brightest tissue).
    """

    first: int
    centers: Float[np.ndarray, "n 2"]
    radius: float
    brightness: float

    def cut(self, start: int, stop: int) -> _Strand:
        first = self.first
        return _Strand(start, self.centers[start - first : stop - first], self.radius, self.brightness)

    def is_clear_of(self, other: _Strand) -> bool:
        """Whether a gap remains in all slices in which both are visible."""
        last, other_last = (strand.first + len(strand.centers) - 1 for strand in (self, other))
        shared = np.arange(max(self.first, other.first) - _REACH, min(last, other_last) + _REACH + 1)
        here = self.centers[np.clip(shared, self.first, last) - self.first]
        there = other.centers[np.clip(shared, other.first, other_last) - other.first]
        apart = np.linalg.norm(here - there, axis=1) - self.radius - other.radius
        return bool((apart > _GAP).all())


def write_phantoms(folder: str | Path, cases: int = 16, *, seed: int = 0, modality: Modality = "CT") -> Dataset:
    """Writes a dataset of phantoms in the Decathlon's layout.

    Args:
        folder: The output folder; files of the same names are replaced.
        cases: How many.
        seed: The same seed gives the same cases, whatever their number.
        modality: ``"CT"`` is in Hounsfield units; ``"MRI"`` has a different scale and bias field in each case.

    Raises:
        ConfigError: ``cases`` is 0.
        OutputError: A file can't be written.
    """
    import nibabel

    if cases < 1:
        raise ConfigError("a dataset has at least one case", got=cases)
    folder = Path(folder)
    written = []
    for index in range(cases):
        name = f"phantom_{index:03d}"
        case = Case(name, (folder / "imagesTr" / f"{name}.nii.gz",), folder / "labelsTr" / f"{name}.nii.gz")
        image, labels = make_phantom(seed, index, modality)
        for path, volume in zip((*case.images, case.label), (image, labels), strict=True):
            assert path is not None
            nifti = nibabel.Nifti1Image(volume.array[0], volume.affine)
            nifti.header.set_xyzt_units("mm")
            with atomic_path(path) as temporary:
                nifti.to_filename(temporary)
        written.append(case)
    dataset = Dataset(f"Phantom{modality}", folder, (modality,), CLASSES, tuple(written))
    write_msd_listing(dataset)
    return dataset


def make_phantom(seed: int, index: int, modality: Modality = "CT") -> tuple[Volume, Volume]:
    """Makes one phantom: about 28 slices of 96 × 96 voxels of about 3 × 1 × 1 mm.

    Args:
        seed: The dataset's seed.
        index: The case's number in the dataset, which also determines its orientation.
        modality: See `write_phantoms`.

    Returns:
        The scan, int16, and its label map, uint8, both ``(1, I, J, K)``.
    """
    random = np.random.default_rng([seed, index])
    shape = [int(random.integers(round(0.9 * size), round(1.1 * size) + 1)) for size in (28, 96, 96)]
    through_plane, in_plane = random.uniform(2.7, 3.3), random.uniform(0.92, 1.08)
    grid = _Grid((shape[0], shape[1], shape[2]), (through_plane, in_plane, in_plane))
    tissue, labels, body = _draw_organs(random, grid)
    for strand, label in _draw_strands(random, grid):
        _paint(strand, label, grid, tissue, labels)
    scan = _acquire(random, tissue, body, modality)
    affine = _affine(random, grid, tilted=index % len(_ORIENTATIONS) == len(_ORIENTATIONS) - 1)
    codes = _ORIENTATIONS[index % len(_ORIENTATIONS)]
    return _store(scan, affine, codes), _store(labels, affine, codes)


def _body_radii(grid: _Grid) -> Float[np.ndarray, "2"]:
    return np.array([0.44, 0.4]) * grid.extent()[1:]


def _draw_organs(
    random: np.random.Generator, grid: _Grid
) -> tuple[Float[np.ndarray, "d h w"], UInt8[np.ndarray, "d h w"], Bool[np.ndarray, "d h w"]]:
    """Draws everything except vessels and lesions: tissue brightness, labels, and the body's mask."""
    depth, height, width = grid.extent()
    middle, body_radii = np.zeros(3), np.array([2.5 * depth, *_body_radii(grid)])
    body = _blob(random, grid, middle, body_radii, bumps=0.04)
    inside = _blob(random, grid, middle, body_radii - 4, bumps=0.04) & body
    tissue = np.where(inside, 0.4, np.where(body, 0.22, 0.0))
    for _ in range(8):  # neighbors without a label, in the organs' range of brightness
        center = random.uniform(-0.3, 0.3, 3) * (depth, height, width)
        radii = random.uniform(0.6, 1.2, 3) * (0.25 * depth, 0.12 * height, 0.12 * width)
        tissue[_blob(random, grid, center, radii) & inside] = random.uniform(0.3, 0.58)
    organ_center = random.normal((0, 0.17, 0.02), 0.02) * (depth, height, width)
    organ_radii = random.uniform(0.9, 1.1, 3) * (0.4 * depth, 0.2 * height, 0.26 * width)
    organ = _blob(random, grid, organ_center, organ_radii) & inside
    gland_center = random.normal((0.05, -0.2, -0.08), 0.025) * (depth, height, width)
    gland_radii = random.uniform(0.9, 1.1, 3) * (0.25 * depth, 0.11 * height, 0.14 * width)
    gland = _blob(random, grid, gland_center, gland_radii) & inside & ~organ
    labels = np.zeros(grid.shape, np.uint8)
    for mask, label, brightness in ((organ, _ORGAN, 0.64), (gland, _GLAND, 0.54)):
        tissue[mask] = brightness + random.normal(0, 0.01)
        labels[mask] = label
    return tissue, labels, body


def _blob(
    random: np.random.Generator,
    grid: _Grid,
    center: Float[np.ndarray, "3"],
    radii: Float[np.ndarray, "3"],
    bumps: float = 0.1,
) -> Bool[np.ndarray, "d h w"]:
    """An ellipsoid whose radius swells and shrinks smoothly with the direction; ``bumps`` has a row for each wave."""
    places = zip(grid.mesh(), center.astype(np.float32), radii.astype(np.float32), strict=True)
    offsets = [(axis - middle) / radius for axis, middle, radius in places]
    distance = np.sqrt(sum(offset**2 for offset in offsets)) + 1e-6
    surface = np.ones(grid.shape, np.float32)
    for wave in random.normal(0, 1.6, (3, 3)).astype(np.float32):
        phase = sum(number * offset for number, offset in zip(wave, offsets, strict=True)) / distance
        surface += bumps * np.sin(phase + random.uniform(0, 2 * np.pi))
    return distance < surface


def _draw_strands(random: np.random.Generator, grid: _Grid) -> list[tuple[_Strand, int]]:
    """Draws vessels, then lesions, each with its label, without contact."""
    slices = grid.shape[0]
    case_brightness = random.uniform(0.9, 1.0)
    wanted = [_VESSEL] * int(random.integers(2, 4)) + [_LESION] * int(random.integers(9, 13))
    strands: list[tuple[_Strand, int]] = []
    for label in wanted:
        for _ in range(100):
            strand = _draw_vessel(random, grid, case_brightness)
            if label == _LESION:
                start = int(random.integers(_REACH + 1, slices - _REACH - 3))
                strand = strand.cut(start, start + int(random.integers(2, 4)))
            if all(strand.is_clear_of(other) for other, _ in strands):
                strands.append((strand, label))
                break
    return strands


def _draw_vessel(random: np.random.Generator, grid: _Grid, case_brightness: float) -> _Strand:
    """A gently curved vessel through all slices, nearly upright so that its sections stay discs."""
    height = grid.axis(0)[:, np.newaxis]  # mm
    room = 0.78 * _body_radii(grid)
    while True:
        lean = random.uniform(-0.08, 0.08, 2) * height
        sway = random.uniform(0.5, 2.5, 2) * np.sin(height / random.uniform(20, 30, 2) + random.uniform(0, 6.3, 2))
        centers = random.uniform(-1, 1, 2) * room + lean + sway
        if (np.sum((centers / room) ** 2, axis=1) < 1).all():
            return _Strand(0, centers, random.uniform(3.0, 4.0), case_brightness + random.normal(0, 0.015))


def _paint(
    strand: _Strand,
    label: int,
    grid: _Grid,
    tissue: Float[np.ndarray, "d h w"],
    labels: UInt8[np.ndarray, "d h w"],
) -> None:
    _, rows, columns = grid.mesh()
    for number, (row, column) in enumerate(strand.centers, start=strand.first):
        disc = ((rows - row) ** 2 + (columns - column) ** 2 < strand.radius**2)[0]
        tissue[number][disc] = strand.brightness
        labels[number][disc] = label


def _acquire(
    random: np.random.Generator,
    tissue: Float[np.ndarray, "d h w"],
    body: Bool[np.ndarray, "d h w"],
    modality: Modality,
) -> Int16[np.ndarray, "d h w"]:
    """Blurs within each slice, which leaves a lesion's last slice as bright as a vessel's, and adds noise."""
    from scipy.ndimage import gaussian_filter

    if modality == "CT":
        hounsfield = np.where(body, 450 * tissue - 150, -1000)
        blurred = gaussian_filter(hounsfield, (0, 0.6, 0.6))
        return np.rint(blurred + random.normal(0, random.uniform(18, 28), tissue.shape)).astype(np.int16)
    blurred = gaussian_filter(tissue, (0, 0.6, 0.6))
    field = gaussian_filter(random.normal(size=tissue.shape), [size / 4 for size in tissue.shape], mode="wrap")
    signal = blurred * np.exp(0.15 * field / field.std())
    real, imaginary = random.normal(0, random.uniform(0.04, 0.06), (2, *tissue.shape))
    scale = np.exp(random.uniform(np.log(200), np.log(5000)))
    return np.rint(scale * np.hypot(signal + real, imaginary)).astype(np.int16)


def _affine(random: np.random.Generator, grid: _Grid, *, tilted: bool) -> Float[np.ndarray, "4 4"]:
    """From ``(right, front, up)`` voxels to RAS+ millimeters."""
    from scipy.spatial.transform import Rotation

    angles = random.uniform(5, 10, 3) * random.choice([-1, 1], 3) if tilted else np.zeros(3)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * np.roll(grid.spacing, -1)
    affine[:3, 3] = random.uniform(-150, 50, 3)
    return affine


def _store(array: Integer[np.ndarray, "d h w"], affine: Float[np.ndarray, "4 4"], codes: str) -> Volume:
    """Arranges the frame ``(D, H, W)`` along the axes that ``codes`` names, without moving it in space."""
    from nibabel import orientations

    wanted = orientations.ornt_transform(orientations.axcodes2ornt("RAS"), orientations.axcodes2ornt(codes))
    upright = array.transpose(1, 2, 0)  # (right, front, up)
    stored = orientations.apply_orientation(upright, wanted)
    return Volume(stored[np.newaxis], affine @ orientations.inv_ornt_aff(wanted, upright.shape))
