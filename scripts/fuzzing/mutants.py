"""Mutated inputs by number: equal numbers give equal files, so that a finding can be made again."""

from __future__ import annotations

import multiprocessing
import random
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path, PurePosixPath

from fuzzing import archives, documents, headers, raw
from fuzzing.seeds import Seed, seeds_of


@cache
def _seeds(format_name: str) -> list[Seed]:
    """Written in another process: what libraries start there, such as threads, can't be split off."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        return pool.submit(seeds_of, format_name).result()


def prepare_seeds(format_name: str) -> None:
    """Writes a format's seeds now, before processes are split off that need them."""
    _seeds(format_name)


def write_mutant(format_name: str, number: int, seed: int, folder: Path) -> Path:
    """Writes a mutated input into an empty folder.

    Returns:
        What its reader is given.
    """
    rng = random.Random(f"{seed} {format_name} {number}")
    chosen = rng.choice(_seeds(format_name))
    files = dict(chosen.files)
    target = rng.choice(chosen.targets)
    if format_name == "network":
        target = "model.json"
    files[target] = _mutated(rng, target, files[target])
    if rng.random() < 0.02:
        del files[rng.choice(list(files))]
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder / chosen.entry if chosen.entry else folder


def _mutated(rng: random.Random, name: str, data: bytes) -> bytes:
    suffixes = "".join(PurePosixPath(name).suffixes[-2:])
    if suffixes.endswith(".gz"):
        inner = headers.mutate_nifti if ".raw" not in suffixes else raw.mutate
        return archives.mutate_gzip(rng, data, raw.mutate if ".img" in suffixes or rng.random() < 0.2 else inner)
    suffix = PurePosixPath(name).suffix
    if suffix in (".nii", ".hdr"):
        return (headers.mutate_nifti if rng.random() < 0.7 else raw.mutate)(rng, data)
    if suffix in (".nrrd", ".nhdr", ".mha", ".mhd"):
        return (headers.mutate_text_header if rng.random() < 0.75 else raw.mutate)(rng, data)
    known = {
        ".dcm": headers.mutate_dicom if rng.random() < 0.6 else raw.mutate,
        ".json": documents.mutate_json,
        ".yaml": documents.mutate_yaml,
        ".csv": documents.mutate_table,
        ".safetensors": headers.mutate_safetensors,
        ".pth": archives.mutate_torch,
        ".ckpt": archives.mutate_torch,
    }
    return known.get(suffix, raw.mutate)(rng, data)
