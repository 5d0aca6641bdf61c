"""What the license of the 2D weights allows for a model trained from them."""

from __future__ import annotations

from inflate3d.errors import ModelError
from inflate3d.provenance import Provenance

_HUB_IDENTIFIERS = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0"),
    *("cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
)
"""Licenses that let models trained from the weights be shared under the same license, as the hub names them."""

_UNKNOWN = ("not known", "not stated", "unknown", "other")


def license_fields(provenance: Provenance | None, *, stated: str | None, accepted: bool) -> dict[str, str]:
    """The license of a shared model, which it inherits from its 2D weights, as fields of the hub's card.

    Args:
        provenance: The run's record; None if there is none.
        stated: The license that the user states.
        accepted: Whether the user says that a license with conditions allows it.

    Raises:
        ModelError: The license is not known, forbids it, or has conditions that the user has not accepted.
    """
    weights = provenance.weights if provenance else None
    recorded = weights.license if weights else None
    known = recorded is not None and recorded.lower() not in _UNKNOWN
    name = recorded if known and recorded else stated
    if known and stated and stated.lower() != str(recorded).lower():
        raise ModelError("the 2D weights have another license", expected=recorded, got=stated, hint="omit --license")
    if name is None:
        if provenance and not weights:
            return {"license": "other", "license_name": "data", "license_link": "README.md"}
        raise ModelError(
            "the license of the 2D weights is not known",
            expected="a license that lets you share models trained from them",
            got=weights.source if weights else "a model without a record of its training",
            hint="if you know it, state it: --license apache-2.0",
        )
    name = name.lower()
    if "-nd" in name:
        raise ModelError("the license of the 2D weights forbids sharing models trained from them", got=name)
    if name in _HUB_IDENTIFIERS:
        return {"license": name}
    page = weights.page if weights and weights.page else "README.md"
    if not accepted:
        raise ModelError(
            "the license of the 2D weights has conditions",
            got=f"{name}, {page}",
            hint="if it lets you share models trained from them: --accept-license",
        )
    return {"license": "other", "license_name": name.replace(" ", "-"), "license_link": page}
