"""The unit of a scan's values, where its file states one."""

from __future__ import annotations

from inflate3d.settings import FrozenModel

SUV = "SUVbw"
"""Standardized uptake value by body weight, in g/mL: what is in a voxel over the dose for each gram of the patient."""


class Unit(FrozenModel):
    """The unit of one modality's values.

    PET series state theirs. Other scans don't: their unit is unknown, and their values are used as they are.

    Attributes:
        name: Such as ``"Bq/mL"`` or ``"SUVbw"``; empty if unknown.
        suv_factor: The values times this are SUV by body weight; None if the file does not allow that.
        obstacle: Why it does not; empty if it does, and for scans that are not PET.

    Examples:
        >>> Unit(name="Bq/mL", suv_factor=0.0005).suv_factor
        0.0005
    """

    name: str = ""
    suv_factor: float | None = None
    obstacle: str = ""
