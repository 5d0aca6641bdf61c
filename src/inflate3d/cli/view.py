"""Show a scan and label maps: a sheet of pictures, or a page to scroll through in the browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from tyro.conf import Positional

from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.errors import ConfigError, DataError
from inflate3d.stopping import Interrupted

if TYPE_CHECKING:
    from inflate3d.report.sheet import ClassEntry, LabelMap
    from inflate3d.volume import Volume


class Options(CommandOptions):
    """Options of ``view``."""

    scan: Positional[Path]
    """A scan: a file, a DICOM series' folder, or FOLDER/SERIES-UID."""
    labels: Positional[tuple[Path, ...]] = ()
    """Label maps on the scan's grid, such as a label and a prediction."""
    out: Path | None = None
    """The sheet's file; NAME-OF-THE-SCAN-view.png in the working folder by default."""
    names: Path | None = None
    """Folder of a run, model or dataset to take class names from."""
    slices: int = Field(default=5, ge=1, le=20)
    """Number of slices per plane."""
    modality: int = Field(default=1, ge=1)
    """Modality to show, counted from 1."""
    overwrite: bool = False
    """Replace a file that inflate3d did not write."""
    browser: bool = False
    """Instead of the sheet, open a browser page with slices, a 3D view and the label maps, up to two side by side."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    """Draws the sheet, or serves the page."""
    from inflate3d.io import lay_on, read_labels, read_volume, stem_of
    from inflate3d.report.sheet import LabelMap, list_classes
    from inflate3d.report.slices import display_range

    _check(options)
    scan = read_volume(options.scan)
    for note in scan.notes:
        terminal.log(f"note: {note}")
    if options.modality > len(scan.array):
        raise DataError(
            "modality not found in the scan",
            expected=f"1 to {len(scan.array)}",
            got=f"--modality {options.modality}",
            file=options.scan,
        )
    names = {} if options.names is None else _class_names(options.names)
    maps = [
        LabelMap(name, lay_on(read_labels(file), scan, case=stem_of(options.scan), file=file).array[0])
        for name, file in zip(_short_names(options.labels), options.labels, strict=True)
    ]
    classes = list_classes(maps, names)
    if options.browser:
        return _serve(options, terminal, scan, maps, classes)
    return _write_sheet(options, terminal, scan, maps, classes, display_range(scan.array[options.modality - 1]))


def _write_sheet(
    options: Options,
    terminal: Terminal,
    scan: Volume,
    maps: Sequence[LabelMap],
    classes: Sequence[ClassEntry],
    values: tuple[float, float],
) -> dict[str, Any]:
    from inflate3d.atomic import atomic_path
    from inflate3d.report.sheet import draw_sheet, volumes_ml

    picture = draw_sheet(
        scan,
        maps,
        classes,
        title=options.scan.name,
        values=values,
        modality=options.modality - 1,
        slices=options.slices,
    )
    file = _sheet_file(options)
    with atomic_path(file) as temporary:
        temporary.write_bytes(picture)
    terminal.print(f"pictures: {file}")
    volumes = {each.name: volumes_ml(each.array, scan.spacing, classes) for each in maps}
    return {"picture": str(file), "window": list(values), "milliliters": volumes}


def _serve(
    options: Options, terminal: Terminal, scan: Volume, maps: Sequence[LabelMap], classes: Sequence[ClassEntry]
) -> dict[str, Any]:
    import webbrowser

    from inflate3d.viewer.page import still_files
    from inflate3d.viewer.server import PageServer

    files = still_files(options.scan.name, scan, maps, classes, modality=options.modality - 1)
    with PageServer(files) as server:
        terminal.log(f"page: {server.address}\npress Ctrl-C to stop")
        webbrowser.open(server.address)
        try:
            server.serve_forever()
        except (Interrupted, KeyboardInterrupt):
            terminal.log("\nended")
        return {"address": server.address}


def _check(options: Options) -> None:
    """Rejects invalid options before anything is read."""
    from inflate3d.report.drawing import check_replaceable

    if options.out and options.out.suffix.lower() != ".png":
        raise ConfigError("the sheet is a PNG file", expected="a name that ends in .png", got=f"--out {options.out}")
    if not options.browser:
        check_replaceable(_sheet_file(options), overwrite=options.overwrite)


def _sheet_file(options: Options) -> Path:
    from inflate3d.io import stem_of

    return options.out or Path(f"{stem_of(options.scan.resolve())}-view.png")


def _class_names(source: Path) -> Mapping[int, str]:
    """Label value to class name, from a run, a model or a dataset."""
    from inflate3d.datasets import read_dataset
    from inflate3d.preparation.plan import Plan
    from inflate3d.run_folder import RunFolder

    if (plan := RunFolder(source).plan).exists():
        return Plan.read(plan).classes
    if (source / "model.json").exists():
        from inflate3d.models.checkpoint import read_model_folder

        model_plan = read_model_folder(source).plan
        return model_plan.classes if model_plan else {}
    return read_dataset(source).classes


def _short_names(files: Sequence[Path]) -> list[str]:
    """File names, with the parent folder where two files have the same name."""
    names = [file.name for file in files]
    return [
        f"{file.parent.name}/{file.name}" if names.count(file.name) > 1 else file.name
        for file in map(Path.absolute, files)
    ]
