"""Looks for inputs that reach new lines of a reader, by atheris; ``scripts/fuzz.py`` knows formats, but not lines.

    pip install atheris                                    # Python 3.11 on Linux
    python scripts/fuzz_guided.py nifti --seconds 600

What ITK, GDCM, torch and Blosc2 do inside is not seen. A finding (another error than ours, more than 10 s or 2 GiB)
ends the search with an exit code other than 0, and its input is kept in ``fuzz-findings/``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris  # pyright: ignore

with atheris.instrument_imports(include=["inflate3d"]):  # pyright: ignore
    from fuzzing.readers import read
    from fuzzing.seeds import FORMATS, Seed, seeds_of

    from inflate3d.errors import Inflate3dError


def main() -> None:
    options = _parsed()
    places = [(seed, target) for seed in seeds_of(options.format) for target in seed.targets][:256]
    options.keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        corpus = Path(work) / "corpus"
        corpus.mkdir()
        for number, (seed, target) in enumerate(places):
            (corpus / str(number)).write_bytes(bytes([number]) + seed.files[target])
        limits = [f"-max_total_time={options.seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=65536"]
        atheris.Setup(
            [sys.argv[0], *limits, f"-artifact_prefix={options.keep}/{options.format}-", str(corpus)],
            _reader(options.format, places, Path(work) / "input"),
        )
        atheris.Fuzz()


def _reader(format_name: str, places: list[tuple[Seed, str]], folder: Path) -> Callable[[bytes], None]:
    """Reads an input: its first byte says which file of which seed the others take the place of."""

    def read_input(data: bytes) -> None:
        if not data:
            return
        seed, target = places[data[0] % len(places)]
        for name, content in {**seed.files, target: data[1:]}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        try:
            read(format_name, folder / seed.entry if seed.entry else folder)
        except Inflate3dError:
            pass
        finally:
            for name in seed.files:
                (folder / name).unlink(missing_ok=True)

    return read_input


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("format", choices=FORMATS)
    parser.add_argument("--seconds", type=int, default=600, help="how long to look")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="where findings are kept")
    return parser.parse_args()


if __name__ == "__main__":
    main()
