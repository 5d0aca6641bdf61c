"""What label values stand for, in the formats that say so: names, codes of a terminology, and who made the labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import UInt
from pydantic import field_validator, model_validator

from inflate3d.settings import FrozenModel

if TYPE_CHECKING:
    from pydicom.sr.coding import Code

Structures = Mapping[str, int | tuple[int, ...]]
"""What named structures stand for, by their plain names: a label value, or all values of a region that may overlap."""

Wanted = Structures | Literal["combinations"] | None
"""What a reader gives the voxels of structures: what each stands for, a number for each combination of structures that
share voxels, or the structures' own numbers."""

_CODE = re.compile(r"(\S+) (\S+) (\S.*)")

_ANATOMY = "AnatomicalStructure"
_ABNORMAL = "MorphologicallyAbnormalStructure"
_TISSUE = "Tissue"

_KNOWN = {
    # BCV, and others of the abdomen
    "spleen": "Spleen",
    "kidney": "Kidney",
    "kidneys": "Kidney",
    "gallbladder": "Gallbladder",
    "esophagus": "Esophagus",
    "liver": "Liver",
    "stomach": "Stomach",
    "aorta": "Aorta",
    "inferior vena cava": "InferiorVenaCava",
    "portal and splenic veins": "Vein",
    "portal vein and splenic vein": "Vein",
    "pancreas": "Pancreas",
    "adrenal gland": "AdrenalGland",
    "adrenal glands": "AdrenalGland",
    "colon": "Colon",
    "lung": "Lung",
    "lungs": "Lung",
    # ACDC, Task02
    "right ventricle": "RightVentricle",
    "left ventricle": "LeftVentricle",
    "myocardium": "LeftVentricleMyocardium",
    "left ventricular myocardium": "LeftVentricleMyocardium",
    "left atrium": "LeftAtrium",
    "heart": "Heart",
    # Task04, Task05, Task08
    "hippocampus": "Hippocampus",
    "anterior": "Hippocampus",
    "posterior": "Hippocampus",
    "anterior hippocampus": "Hippocampus",
    "posterior hippocampus": "Hippocampus",
    "prostate": "Prostate",
    "pz": "PeripheralZoneOfTheProstate",
    "peripheral zone": "PeripheralZoneOfTheProstate",
    "tz": "TransitionZoneOfTheProstate",
    "transition zone": "TransitionZoneOfTheProstate",
    "vessel": "BloodVessel",
    "hepatic vessel": "BloodVessel",
    "brain": "Brain",
}
"""Class name to the keyword of its code in SNOMED CT, as `pydicom.sr.codedict` has them from DICOM PS3.16."""

_KNOWN_ABNORMAL = {
    "edema": "Edema",
    "tumor": "Neoplasm",
    "neoplasm": "Neoplasm",
    "cancer": "Neoplasm",
    "lesion": "Lesion",
    "cyst": "Cyst",
    "necrosis": "Necrosis",
    "non enhancing tumor": "Neoplasm",
    "enhancing tumor": "Neoplasm",
    "enhancing tumour core": "Neoplasm",
    "colon cancer primaries": "Neoplasm",
    "lung tumor": "Neoplasm",
    "liver tumor": "Neoplasm",
    "pancreas tumor": "Neoplasm",
}
"""The same for abnormal structures."""

_SIDES = {"left": "Left", "right": "Right"}


class SegmentCode(FrozenModel):
    """Codes of a structure, each ``SCHEME VALUE MEANING``, such as ``SCT 10200004 Liver``.

    Attributes:
        type: What the structure is.
        category: The kind of thing that it is; an anatomical structure if not given.
        modifier: What further qualifies it, such as its side (``SCT 7771000 Left``).
    """

    type: str
    category: str = "SCT 91723000 Anatomical Structure"
    modifier: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        """The code of the type alone may be given as text."""
        return {"type": value} if isinstance(value, str) else value

    @field_validator("type", "category", "modifier")
    @classmethod
    def _is_code(cls, value: str | None) -> str | None:
        if value is None:
            return None
        match = _CODE.fullmatch(value.strip())
        if match is None or max(len(match[1]), len(match[2])) > 16 or len(match[3]) > 64:
            raise ValueError(f"{value!r} is not a code; write scheme, value and meaning, such as 'SCT 10200004 Liver'")
        return value.strip()


COLORS = (
    *("#dc7a6e", "#56b4e9", "#1fc795", "#f0e442", "#e69f00", "#e08dbb", "#5b86f5"),
    *("#bbcc33", "#ee8866", "#99ddff", "#aaaa00", "#ffaabb", "#cc79a7"),
)
"""Recommended colors of structures, again from the first where there are more."""


@dataclass(frozen=True)
class Segments:
    """What the values of a label map stand for.

    Attributes:
        names: Label value to name; the background, 0, may be left out.
        codes: Name to codes, for those that differ from the built-in ones.
        dataset: The dataset that the classes are from; empty if unknown.
        by_model: Whether a model made the labels, not a person.
        regions: Structures that may overlap, each with its values, by name; without, each value is a structure.
    """

    names: Mapping[int, str] = field(default_factory=dict)
    codes: Mapping[str, SegmentCode] = field(default_factory=dict)
    dataset: str = ""
    by_model: bool = True
    regions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def structures_in(self, labels: UInt[np.ndarray, "i j k"]) -> list[tuple[str, tuple[int, ...]]]:
        """Name and values of each region; or of each value with a name or in the label map, except the background."""
        if self.regions:
            return list(self.regions.items())
        values = sorted({*self.names, *np.unique(labels).tolist()} - {0})
        return [(self.names.get(value, f"class {value}"), (value,)) for value in values]

    def code_of(self, name: str) -> SegmentCode:
        """The codes of a structure: given ones, those of the built-in table, or "Tissue" for one in neither."""
        return self.codes.get(name) or known_code(name) or _code(_TISSUE, _TISSUE)


def known_code(name: str) -> SegmentCode | None:
    """The built-in codes of a class name; those of the classes of BCV, ACDC and the Medical Segmentation Decathlon.

    Case, spaces, underscores, hyphens and spelling (oesophagus, tumour) make no difference, and a name may begin or end
    with its side.

    Examples:
        >>> code = known_code("Right_Kidney")
        >>> code.type, code.modifier
        ('SCT 64033007 Kidney', 'SCT 24028007 Right')
    """
    words = plain_name(name).replace("oesophagus", "esophagus").replace("tumour", "tumor").replace("oedema", "edema")
    sides = [side for side in _SIDES if words.startswith(f"{side} ") or words.endswith(f" {side}")]
    bare = words.removeprefix(f"{sides[0]} ").removesuffix(f" {sides[0]}") if sides else ""
    for known, category in ((_KNOWN, _ANATOMY), (_KNOWN_ABNORMAL, _ABNORMAL)):
        if words in known:
            return _code(category, known[words])
        if bare in known:
            return _code(category, known[bare], _SIDES[sides[0]])
    return None


def plain_name(name: str) -> str:
    """A structure's name in lower case, its words separated by single spaces, to compare programs."""
    return " ".join(re.split(r"[\s_\-]+", name.strip().lower())).strip()


def dicom_code(text: str) -> Code:
    """The code of a text ``SCHEME VALUE MEANING``."""
    from pydicom.sr.coding import Code

    scheme, value, meaning = text.split(" ", 2)
    return Code(value, scheme, meaning)


def _code(category: str, kind: str, modifier: str | None = None) -> SegmentCode:
    texts = [None if keyword is None else _snomed(keyword) for keyword in (category, kind, modifier)]
    return SegmentCode.model_validate({"category": texts[0], "type": texts[1], "modifier": texts[2]})


def _snomed(keyword: str) -> str:
    from pydicom.sr.codedict import codes

    code = getattr(codes.SCT, keyword)
    return f"{code.scheme_designator} {code.value} {code.meaning}"
