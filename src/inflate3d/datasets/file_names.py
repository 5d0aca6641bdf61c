"""What the names of scan files mean: image or label map, case, modality, patient."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from inflate3d.errors import DataError, DatasetProblems
from inflate3d.io import scan_files, stem_of

LABEL_WORDS = frozenset(
    """
    label labels labelmap labelmaps lbl mask masks seg segs segmentation segmentations annotation annotations
    annot gt truth groundtruth ground roi contour contours msk msks dseg aseg
    """.split()  # noqa: SIM905 - a line a word would be long
)
"""Words in the name of a file, or of its folder, that mark it as a label map."""

IMAGE_WORDS = frozenset(
    """
    image images img imgs scan scans volume volumes vol vols dicom dicoms dcm nifti raw data series orig
    """.split()  # noqa: SIM905 - a line a word would be long
)
"""Words that mean any image, and so do not distinguish cases."""

MODALITY_WORDS = {
    "ct": "CT",
    **dict.fromkeys(("t1", "t1w", "t1n"), "T1w"),
    **dict.fromkeys(("t1ce", "t1gd", "t1c", "t1post"), "T1Gd"),
    **dict.fromkeys(("t2", "t2w"), "T2w"),
    **dict.fromkeys(("flair", "t2f"), "FLAIR"),
    **dict.fromkeys(("pd", "pdw"), "PDw"),
    "adc": "ADC",
    "dwi": "DWI",
    "swi": "SWI",
    **dict.fromkeys(("pet", "pt"), "PET"),
    "suv": "SUV",
    **dict.fromkeys(("mr", "mri"), "MRI"),
}
"""Words that distinguish the files of one case, and the modality that each means; in channel order."""

_CONTRAST = frozenset({"post", "gd", "gad", "ce", "contrast", "km"})
"""Words in a series description that mean that a T1 scan has contrast agent."""

_PARTS = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "va"), "validation"),
    **dict.fromkeys(("test", "testing", "ts"), "test"),
}

_VISITS = re.compile(
    r"(?i)(.+?)[_-](?:frame|ses|session|visit|tp|timepoint|time|t|phase|scan|day|week|month|year|baseline|followup)"
    r"[_-]?\d*"
)
_NUMBERED = re.compile(r"(.*?(\d{3,}))[_-](\d+)")


@dataclass(frozen=True)
class ScanFile:
    """A file, or a DICOM series, as its path names it.

    Attributes:
        parts: The path's parts that are not common to all files, the last one without the suffix.
        study: For a DICOM series, such parts of the folder with all series of its study.
        description: For a DICOM series, the series description and the modality in its headers.
        role: What the user says that it is; None: what its name says.
    """

    path: Path
    parts: tuple[str, ...]
    study: tuple[str, ...] | None = None
    description: tuple[str, str] = ("", "")
    role: Literal["image", "label"] | None = None

    @property
    def is_label(self) -> bool:
        """Whether the user, or else some part of the name, marks it as a label map."""
        if self.role is not None:
            return self.role == "label"
        return any(word in LABEL_WORDS for part in self.parts for word in words_of(part))

    @property
    def part_of_split(self) -> str | None:
        """Part of the split that its folder names: training, validation or test."""
        words = [word for part in self.parts[:-1] for word in words_of(part)]
        return next((_PARTS[word] for word in reversed(words) if word in _PARTS), None)


Key = tuple[str, ...]
"""The part of a name that image and label map of a case share."""

Reading = Callable[[ScanFile], tuple[ScanFile, str]]
"""A way to read names: the file without the channel in its name, and the channel (empty if there is only one)."""


def words_of(part: str) -> list[str]:
    """The words of one part of a path in lower case; ``img0001`` and ``imagesTr`` are two words each."""
    words: list[str] = []
    composed = unicodedata.normalize("NFC", part)  # macOS splits letters like ü into two characters
    for word in re.findall(r"[^\W_]+", composed.lower()):
        glued = re.fullmatch(r"([a-z]+?)(\d+|tr|ts|va|val)", word)
        words += glued.groups() if glued and glued[1] in LABEL_WORDS | IMAGE_WORDS else [word]
    return words


def one_image_a_case(file: ScanFile) -> tuple[ScanFile, str]:
    """``case_01.nii.gz`` and ``case_01_seg.nii.gz``."""
    return file, ""


def numbered_channels(file: ScanFile) -> tuple[ScanFile, str]:
    """nnU-Net's ``case_01_0000.nii.gz``, ``case_01_0001.nii.gz`` and ``case_01.nii.gz``."""
    numbered = None if file.is_label or not file.parts else re.fullmatch(r"(.+)_(00\d\d)", file.parts[-1])
    if numbered is None:
        return file, ""
    return dataclasses.replace(file, parts=(*file.parts[:-1], numbered[1])), numbered[2]


def named_channels(file: ScanFile) -> tuple[ScanFile, str]:
    """``case_01_t1.nii.gz``, ``case_01_flair.nii.gz`` and ``case_01_seg.nii.gz``."""
    named = [MODALITY_WORDS[word] for part in file.parts for word in words_of(part) if word in MODALITY_WORDS]
    parts = tuple(_without(part, MODALITY_WORDS) for part in file.parts)
    return dataclasses.replace(file, parts=parts), named[-1] if named and not file.is_label else ""


def bids_entities(file: ScanFile) -> tuple[ScanFile, str]:
    """BIDS: ``sub-1/anat/sub-1_T1w.nii.gz`` and ``derivatives/labels/sub-1/anat/sub-1_T1w_dseg.nii.gz``."""
    pieces = file.parts[-1].split("_") if file.parts else []
    entities = [piece for piece in pieces if re.fullmatch(r"(sub|ses|run)-[^\W_]+", piece)]
    if not entities or not entities[0].startswith("sub-"):
        return file, ""
    channel = "" if file.is_label else _modality_of(words_of(pieces[-1]))
    return dataclasses.replace(file, parts=("_".join(entities),)), channel


def dicom_studies(file: ScanFile) -> tuple[ScanFile, str]:
    """All DICOM series of a study are modalities of one scan, whatever their folders are called."""
    if file.study is None:
        return named_channels(file)
    text, modality = file.description
    words = [*(word for part in file.parts[-1:] for word in words_of(part)), *words_of(text)]
    channel = _modality_of(words) or MODALITY_WORDS.get(modality.lower(), modality)
    if channel == "T1w" and not _CONTRAST.isdisjoint(words):
        channel = "T1Gd"
    return dataclasses.replace(file, parts=tuple(_without(part, MODALITY_WORDS) for part in file.study)), channel


def _modality_of(words: Sequence[str]) -> str:
    """The last modality named, or an empty string; ``T2 FLAIR`` is FLAIR."""
    named = [MODALITY_WORDS[word] for word in words if word in MODALITY_WORDS]
    return "FLAIR" if "FLAIR" in named else (named or [""])[-1]


READINGS: tuple[Reading, ...] = (one_image_a_case, numbered_channels, named_channels, bids_entities, dicom_studies)
"""All ways to read names; of those that fit equally well, the first is taken."""


def channel_order(channel: str) -> tuple[int, str]:
    """Sorts channels: named ones in the order of the table, numbered ones by number."""
    names = list(dict.fromkeys(MODALITY_WORDS.values()))
    return (names.index(channel) if channel in names else -1), channel


def key_of(file: ScanFile) -> Key:
    """What the names of a case's files have in common: all words except those of the role."""
    key: list[str] = []
    for part in file.parts:
        name = "_".join(word for word in words_of(part) if word not in LABEL_WORDS | IMAGE_WORDS)
        if name and name not in key[-1:]:  # a case's folder and file often have one name
            key.append(name)
    return tuple(key)


def find_label_maps(files: Sequence[Path], folder: Path) -> set[Path]:
    """The files that are label maps of other files, such as ``c1_seg.nii.gz`` or ``labels/c1.nii.gz`` of ``c1.nii.gz``.

    Use it to leave out label maps when a folder of scans is predicted. Only names are considered. A file is a label map
    if its name, or that of its folder below ``folder``, contains such a word (``seg``, ``mask``, ``label``, ``gt`` ...)
    and otherwise equals another file's name; or if it is ``c1.nii.gz`` beside nnU-Net's ``c1_0000.nii.gz``.

    Examples:
        >>> files = [Path("data", name) for name in ("c1.nii.gz", "c1_seg.nii.gz", "ct_seg_phase.nii.gz")]
        >>> sorted(path.name for path in find_label_maps(files, Path("data")))
        ['c1_seg.nii.gz']
    """
    named = {path: ScanFile(path, (*path.relative_to(folder).parts[:-1], stem_of(path))) for path in files}
    found: set[Path] = set()
    for reading in READINGS:
        keys = {path: key_of(reading(file)[0]) for path, file in named.items()}
        scans = {keys[path] for path, file in named.items() if not file.is_label}
        found |= {path for path, file in named.items() if file.is_label and keys[path] in scans}
    stems = {path: path.with_name(stem_of(path)) for path in files}
    known = set(stems.values())
    return found | {path for path, stem in stems.items() if stem.with_name(f"{stem.name}_0000") in known}


def check_one_format(files: Sequence[Path], *, case_of: Mapping[Path, str]) -> None:
    """Checks that no file exists in two formats, such as ``c1.nii`` and ``c1.nii.gz``: either may be outdated.

    Args:
        files: Scans and label maps that were found by their names.
        case_of: The case of each file.
    """
    formats: dict[Path, list[Path]] = {}
    for folder in sorted({file.parent for file in files}):
        for path in scan_files(folder) if folder.is_dir() else ():
            formats.setdefault(path.with_name(stem_of(path)), []).append(path)
    problems = [
        DataError(
            "a file exists in several formats",
            expected="one file for each modality and one label map",
            got=", ".join(path.name for path in there),
            hint="remove the ones you don't want",
            case=case_of[file],
            file=file,
        )
        for file in files
        if len(there := formats.get(file.with_name(stem_of(file)), [])) > 1
    ]
    if problems:
        raise DatasetProblems(problems)


def mask_name(mask: ScanFile, image: ScanFile) -> str:
    """The class that a mask's name gives: all words except those of the role and of its image.

    Examples:
        >>> mask = ScanFile(Path(), ("s1", "masks", "left_lung"))
        >>> mask_name(mask, ScanFile(Path(), ("s1", "ct")))
        'left lung'
    """
    known = {word for part in image.parts for word in words_of(part)}
    dropped = known | LABEL_WORDS | IMAGE_WORDS | MODALITY_WORDS.keys() | {"derivatives", "desc", "space", "res"}
    words = [word for part in mask.parts for word in words_of(part) if word not in dropped]
    return " ".join(dict.fromkeys(words))


def case_ids(scans: Sequence[ScanFile]) -> list[str]:
    """A short name for each case, from its first scan, with as many folders as needed to be unique."""
    parts = [_plain_parts(scan) for scan in scans]
    lengths = [1] * len(parts)
    while True:
        names = ["_".join(part[-length:]) for part, length in zip(parts, lengths, strict=True)]
        folded = [name.casefold() for name in names]
        counts = Counter(folded)
        clashing = [index for index, name in enumerate(folded) if counts[name] > 1]
        longer = [index for index in clashing if lengths[index] < len(parts[index])]
        if not longer:
            break
        for index in longer:
            lengths[index] += 1
    for index in clashing:  # names that differ in nothing but words of the role
        names[index] = _case_name("_".join(scans[index].parts))
    return names


def patients(ids: Sequence[str]) -> list[str] | None:
    """The patient of each case, if the names of all cases contain one, as ``patient001_frame01`` does.

    Returns:
        One per case; ``None`` if a name has no patient, or every case has another one.
    """
    found = []
    for name in ids:
        visit = _VISITS.fullmatch(name)
        numbered = _NUMBERED.fullmatch(name)
        if visit:
            found.append(visit[1])
        elif numbered and len(numbered[3]) < len(numbered[2]):
            found.append(numbered[1])
        else:
            return None
    return found if 1 < len(set(found)) < len(ids) else None


def patients_of_modalities(scans: Sequence[ScanFile]) -> list[str] | None:
    """The patient of each case, where one has several cases that differ in the modality of their names alone.

    Returns:
        One per case, such as ``p1`` for ``p1/CT_image`` and ``p1/PET_image``; ``None`` if there is none.
    """
    named = [named_channels(scan) for scan in scans]
    if not all(modality for _, modality in named):
        return None
    found = ["_".join(_plain_parts(scan)) for scan, _ in named]
    modalities: dict[str, list[str]] = {}
    for patient, (_, modality) in zip(found, named, strict=True):
        modalities.setdefault(patient, []).append(modality)
    several = [each for each in modalities.values() if len(each) > 1]
    return found if several and all(len(set(each)) == len(each) for each in several) else None


def _without(part: str, words: Container[str]) -> str:
    """Part of a path without certain words and the separators before them."""
    pieces = re.split(r"([^\W_]+)", part)  # separators at even places, words at odd ones
    kept = "".join(
        separator + word
        for separator, word in zip(pieces[::2], [*pieces[1::2], ""], strict=True)
        if word.lower() not in words
    )
    return kept.strip("_-. ")


def _plain_parts(file: ScanFile) -> list[str]:
    """Parts of the path without role words at either end and without characters that can't be in a file name."""
    plain: list[str] = []
    for part in file.parts:
        pieces = re.split(r"([_\-. ]+)", part)
        while pieces and _is_role(pieces[-1]):
            del pieces[-2:]
        name = _case_name("".join(pieces))
        if name and name not in plain[-1:]:
            plain.append(name)
    return plain or [_case_name(file.path.parent.name) or "case"]


def _is_role(piece: str) -> bool:
    """Whether a piece of a name is a word like ``img`` or ``imagesTr``, or empty."""
    words = words_of(piece)
    return not words or (words[0] in LABEL_WORDS | IMAGE_WORDS and set(words[1:]) <= _PARTS.keys())


def _case_name(name: str) -> str:
    """The name without characters that a case's name can't have."""
    return re.sub(r"[^\w.+ -]|\.\.+", "_", name).lstrip(".")


def escaped(name: str) -> str:
    """A file's name for messages and comments, with its control characters escaped."""
    return name if name.isprintable() else repr(name)
