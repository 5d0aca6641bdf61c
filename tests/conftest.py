"""What all tests share: array shapes are checked as they run, and a small dataset, store and run to look at."""

# ruff: noqa: F401

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import monai.inferers.utils
import nibabel
import numpy as np
import pytest
import pytorch_lightning
import SimpleITK
import timm
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

# After the large libraries: those that are imported below a hooked module are compiled anew in every process.
# Before the package, in every xdist worker. `make test` runs the slow tests without it: it takes a quarter of the time.
if os.environ.get("CHECK_SHAPES", "1") == "1":
    install_import_hook("inflate3d", "beartype.beartype")

from inflate3d.config import InflatedConfig, RunConfig, TrainingConfig
from inflate3d.datasets.case import Case, Dataset
from inflate3d.datasets.msd import write_msd_listing
from inflate3d.datasets.phantom import write_phantoms
from inflate3d.preparation.prepare import prepare
from inflate3d.preparation.store import Store
from inflate3d.run_folder import RunFolder

torch.set_num_threads(1)
settings.register_profile("without a clock", deadline=None)
settings.load_profile("without a clock")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips the tests that need more CUDA devices than there are."""
    devices = torch.cuda.device_count()
    for item in items:
        if (marker := item.get_closest_marker("gpu")) and (needed := marker.kwargs.get("count", 1)) > devices:
            item.add_marker(pytest.mark.skip(reason=f"needs {needed} CUDA devices, this machine has {devices}"))


@pytest.fixture(scope="session", autouse=True)
def coarse_pictures() -> Iterator[None]:
    """Draws with few pixels: a report takes longer than a training of two steps. Tests of pictures see all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inflate3d.report.drawing.DPI", 25)
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real scans and weights beside the checkout."""
    folder = Path(__file__).parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"real scans and weights are not here: no folder {folder}")
    return folder


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory) -> Dataset:
    """Five phantom cases."""
    return write_phantoms(tmp_path_factory.mktemp("phantoms"), 5)


@pytest.fixture(scope="session")
def phantom_store(phantoms, tmp_path_factory) -> Store:
    """The phantoms, prepared."""
    return prepare(phantoms, tmp_path_factory.mktemp("store"), workers=1)


@pytest.fixture(scope="session")
def tiny_training() -> TrainingConfig:
    """Two steps on a CPU, and a validation on one case."""
    return TrainingConfig(
        steps=2, batch_size=2, validate_every=2, validation_cases=1, precision="32", accelerator="cpu", workers=0
    )


@pytest.fixture(scope="session")
def tiny_config(phantoms, phantom_store, tiny_training) -> RunConfig:
    """The smallest training that does all that a training does."""
    return RunConfig(
        dataset=phantoms.root,
        store=phantom_store.folder,
        model=InflatedConfig(
            encoder="resnet10t", weights="none", depth=3, image_size=(64, 64), decoder_channels=8, detail_channels=4
        ),
        training=tiny_training,
    ).resolve(phantom_store.plan.defaults)


@pytest.fixture(scope="session")
def tiny_run(tiny_config, phantom_store, tmp_path_factory) -> RunFolder:
    """A finished run of two steps, not to be changed."""
    from inflate3d.training.run import train

    folder = RunFolder(tmp_path_factory.mktemp("runs") / "tiny")
    train(tiny_config, folder, phantom_store)
    return folder


@pytest.fixture(scope="session")
def random_model(phantom_store):
    """Random weights with which every class is predicted somewhere; five classes whose label values have gaps."""
    from inflate3d.models.encoders import create_encoder
    from inflate3d.models.segmenter import create_model

    torch.manual_seed(0)
    encoder = create_encoder("resnet10t", depth=3, image_size=64, weights="none")
    model = create_model(encoder=encoder, num_classes=5, decoder_channels=8, detail_channels=4)
    torch.nn.init.zeros_(model.classifier.bias)  # type: ignore[arg-type]
    torch.nn.init.zeros_(model.correct.bias)  # type: ignore[arg-type]
    torch.nn.init.normal_(model.correct.weight, std=3.0)
    classes = dict(zip((0, 3, 4, 90, 700), phantom_store.plan.class_names, strict=True))
    model.plan = phantom_store.plan.model_copy(update={"image_size": (64, 64), "classes": classes})
    return model.eval()


TOY_SHAPE = (20, 24, 7)
TOY_AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])
TOY_CLASSES = {0: "background", 2: "liver", 5: "tumor"}

WriteToys = Callable[..., Dataset]


@pytest.fixture(scope="session")
def write_toys() -> WriteToys:
    """Writes datasets of tiny CT scans with a bright box in each; label values have gaps."""
    return _write_toys


def _write_toys(folder: Path, cases: int = 5, shape: tuple[int, int, int] = TOY_SHAPE) -> Dataset:
    listed = []
    for index in range(cases):
        random = np.random.default_rng(index)
        labels = np.zeros(shape, np.uint8)
        labels[5:12, 6:16, 1:-1] = 2
        labels[8:10, 9:12, 2:-2] = 5
        scan = (random.normal(0, 10, shape) + 100 * labels).astype(np.int16)
        case = Case(f"toy{index}", (folder / f"imagesTr/toy{index}.nii.gz",), folder / f"labelsTr/toy{index}.nii.gz")
        assert case.label is not None
        for path, array in ((case.scan, scan), (case.label, labels)):
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.Nifti1Image(array, TOY_AFFINE).to_filename(path)
        listed.append(case)
    dataset = Dataset("Toys", folder, ("CT",), TOY_CLASSES, tuple(listed))
    write_msd_listing(dataset)
    return dataset


STORAGE_CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
}
ORIGIN = (-30.0, -20.0, 12.5)
AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))

WriteSeries = Callable[..., list[Path]]


@pytest.fixture(scope="session")
def write_series() -> WriteSeries:
    """Writes values ``(slices, rows, columns)`` as one DICOM file a slice."""
    return _write_series


def _write_series(
    folder: Path,
    values: np.ndarray,
    *,
    directions: Sequence[Sequence[float]] = AXIAL,
    spacing: tuple[float, float] = (0.7, 0.8),
    step: Sequence[float] | None = None,
    origin: Sequence[float] = ORIGIN,
    uid: str = "1.2.3.4",
    modality: str = "MR",
    names: Sequence[str] | None = None,
    rescale: Sequence[tuple[float, float]] | None = None,
    compressor: str | None = None,
    tags: dict[str, str] | None = None,
    tags_of: Callable[[int], dict[str, str]] = lambda index: {},
    inverted: bool = False,
) -> list[Path]:
    """Writes a series.

    Args:
        folder: Made if it isn't there.
        values: After slope and intercept.
        directions: Unit vectors along a row (to the next column) and along a column (to the next row), LPS+.
        spacing: Millimeters between columns, and between rows.
        step: From slice to slice; 2.5 mm along the normal if not given.
        origin: Position of the first slice.
        uid: Series Instance UID.
        modality: CT, MR or PT.
        names: Of the files; ``IM000.dcm`` and so on if not given.
        rescale: Slope and intercept of each slice; none if not given.
        compressor: Such as JPEG2000.
        tags: Of every slice.
        tags_of: More tags, by the slice's index.
        inverted: Whether the photometric interpretation is MONOCHROME1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    row, column = np.array(directions, float)
    normal = np.cross(row, column)
    between = 2.5 * normal if step is None else np.array(step)
    written = []
    for index, plane in enumerate(values):
        position = np.array(origin) + index * between
        image = SimpleITK.GetImageFromArray(plane[np.newaxis])
        image.SetSpacing([*spacing, 1.0])
        image.SetDirection(np.stack([row, column, normal], 1).ravel().tolist())
        image.SetOrigin(position.tolist())
        for tag, text in {
            "0008|0016": STORAGE_CLASSES[modality],
            "0008|0060": modality,
            "0008|103e": f"series {uid}",
            "0010|0020": "patient 7",
            "0020|000d": "1.2.3",
            "0020|000e": uid,
            "0020|0013": str(len(values) - index),  # against the positions
            "0020|0032": "\\".join(f"{number:.10g}" for number in position),
            "0020|0037": "\\".join(f"{number:.10g}" for number in (*row, *column)),
            "0028|0030": f"{spacing[1]}\\{spacing[0]}",
            **(_rescale_tags(*rescale[index]) if rescale else {}),
            **(tags or {}),
            **tags_of(index),
        }.items():
            image.SetMetaData(tag, text)
        path = folder / (names[index] if names else f"IM{index:03d}.dcm")
        writer = SimpleITK.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.KeepOriginalImageUIDOn()
        if compressor:
            writer.UseCompressionOn()
            writer.SetCompressor(compressor)
        writer.SetFileName(str(path))
        writer.Execute(image)
        if inverted:
            path.write_bytes(path.read_bytes().replace(b"MONOCHROME2", b"MONOCHROME1"))
        written.append(path)
    return written


def _rescale_tags(slope: float, intercept: float) -> dict[str, str]:
    stored = {"0028|0100": "16", "0028|0101": "16", "0028|0102": "15", "0028|0103": "1"}
    return {"0028|1053": f"{slope:g}", "0028|1052": f"{intercept:g}", **stored}


Browse = Callable[..., bytes]

_BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
_BROWSER_FLAGS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
                  "--hide-scrollbars", "--allow-file-access-from-files")  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real browser without a window, driven by Playwright, which draws WebGL on the CPU."""
    program = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser is installed: none of {', '.join(_BROWSERS)} is on the path")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=list(_BROWSER_FLAGS))
        yield started
        started.close()


@pytest.fixture
def browse(browser) -> Browse:
    """Opens an address in a real browser, and gives what it shows."""

    def browse(address: str, *, picture: bool, size: tuple[int, int] = (1280, 900)) -> bytes:
        """The page as a PNG file, or what its scripts made of it as HTML."""
        page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        page.goto(address)
        shown = page.screenshot() if picture else page.content().encode()
        page.close()
        return shown

    return browse
