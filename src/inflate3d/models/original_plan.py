"""A plan for a checkpoint of the paper's code, which has none: how scans become its windows."""

from __future__ import annotations

from pathlib import Path

from inflate3d.errors import ConfigError
from inflate3d.models.architecture import Architecture
from inflate3d.preparation.plan import Plan


def read_plan(path: str | Path, architecture: Architecture) -> Plan:
    """Reads the plan of a prepared dataset of a checkpoint's modalities and classes.

    Their numbers are checked. Their order can't be: a checkpoint names neither.

    Args:
        path: A prepared store, a run's folder, or a ``plan.json``.
        architecture: Of the checkpoint's network.

    Returns:
        The plan, with the network's own image size.

    Raises:
        ConfigError: There is none, or it has other numbers of modalities or classes than the network.
    """
    file = Path(path) / "plan.json" if Path(path).is_dir() else Path(path)
    plan = Plan.read(file)
    pairs = {
        "modalities": (architecture.in_channels, plan.modalities),
        "classes, background counted": (architecture.num_classes, plan.class_names),
    }
    differing = {what: pair for what, pair in pairs.items() if pair[0] != len(pair[1])}
    if differing:
        raise ConfigError(
            "the plan is not that of the checkpoint's data",
            expected=", ".join(f"{count} {what}" for what, (count, _) in differing.items()),
            got=", ".join(f"{len(names)} {what} ({', '.join(names)})" for what, (_, names) in differing.items()),
            hint="prepare a dataset with what the checkpoint has learned, in its order, and give that plan",
            file=file,
        )
    return plan.model_copy(update={"image_size": architecture.image_size})
