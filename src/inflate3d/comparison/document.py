"""A comparison as plain values for JSON, and back from there, so that its page can be made again without its runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inflate3d.comparison.cost import Cost, Network
from inflate3d.comparison.results import Comparison, Difference, Row
from inflate3d.errors import DataError
from inflate3d.evaluation.statistics import Estimate
from inflate3d.settings import read_json

JSON_FILE = "comparison.json"
"""In a comparison's folder: all of its figures."""


def read_comparison(folder: Path) -> Comparison:
    """Reads what a comparison found from its folder.

    Raises:
        ConfigError: There is no such file, or it is no JSON.
        DataError: It is no comparison's.
    """
    file = folder / JSON_FILE
    values = read_json(file)
    try:
        found = Comparison(
            dataset=str(values["dataset"]),
            held_out=tuple(map(str, values["held_out"])),
            seeds=tuple(map(int, values["seeds"])),
            tolerance=_number(values["nsd_tolerance_mm"]),
            rows=tuple(_to_row(row) for row in values["rows"]),
        )
        _check_shape(found)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(
            "the comparison can't be read",
            expected="what `inflate3d compare` writes",
            got=repr(error)[:200],
            hint="give the command of the comparison once more; what is trained stays",
            file=file,
        ) from error
    return found


def document(comparison: Comparison) -> dict[str, Any]:
    """All of a comparison as plain values; what is not known is ``null``."""
    return {
        "dataset": comparison.dataset,
        "held_out": list(comparison.held_out),
        "seeds": list(comparison.seeds),
        "nsd_tolerance_mm": _plain(comparison.tolerance),
        "intervals": "95 %, percentile bootstrap over the held-out cases, 10,000 resamples, in pairs for differences",
        "test": "Wilcoxon signed-rank over the held-out cases, zeros by Pratt, Holm's correction over all rows",
        "rows": [to_dict(row) for row in comparison.rows],
    }


def to_dict(row: Row) -> dict[str, Any]:
    """A row as plain values; what is not known is ``None``."""
    values = {
        "arm": row.arm,
        "training_cases": row.cases,
        "all_training_cases": row.all_cases,
        "differs": row.words,
        "dice": _interval(row.dice),
        "dice_of_seeds": {str(seed): _plain(value) for seed, value in row.seeds.items()},
        "dice_of_classes": {name: _plain(value) for name, value in row.classes.items()},
        "dice_of_cases": [_plain(value) for value in row.by_case],
        "seed_deviation": _plain(row.seed_deviation),
        "hd95_mm": _plain(row.hd95),
        "nsd": _plain(row.nsd),
        "pooled_dice": _plain(row.pooled),
        "difference": None,
        "parameters": row.cost.network.parameters,
        "flops": row.cost.network.flops,
        "encoder_flops": row.cost.network.encoder_flops,
        "decoder_flops": _decoder_flops(row.cost.network),
        "flops_are_for_a": row.cost.network.seen,
        "training_seconds": _plain(row.cost.training_seconds),
        "prediction_seconds": _plain(row.cost.prediction_seconds),
        "peak_memory_bytes": _plain(row.cost.peak_memory_bytes),
        "device": row.cost.device,
        "paper_pooled_dice_percent": row.paper,
    }
    if row.difference:
        values["difference"] = {
            **_interval(row.difference.dice),
            "better_cases": row.difference.better,
            "cases": row.difference.cases,
            "wilcoxon_p": _plain(row.difference.p),
            "wilcoxon_p_holm": _plain(row.difference.p_corrected),
        }
    return values


def _to_row(values: Mapping[str, Any]) -> Row:
    encoder, paper = values["encoder_flops"], values["paper_pooled_dice_percent"]
    return Row(
        arm=str(values["arm"]),
        cases=int(values["training_cases"]),
        all_cases=bool(values["all_training_cases"]),
        words=str(values["differs"]),
        dice=_to_estimate(values["dice"]),
        seeds={int(seed): _number(value) for seed, value in values["dice_of_seeds"].items()},
        hd95=_number(values["hd95_mm"]),
        nsd=_number(values["nsd"]),
        pooled=_number(values["pooled_dice"]),
        classes={str(name): _number(value) for name, value in values["dice_of_classes"].items()},
        by_case=tuple(map(_number, values["dice_of_cases"])),
        difference=_to_difference(values["difference"]) if values["difference"] else None,
        cost=Cost(
            network=Network(
                int(values["parameters"]),
                int(values["flops"]),
                None if encoder is None else int(encoder),
                str(values["flops_are_for_a"]),
            ),
            training_seconds=_number(values["training_seconds"]),
            prediction_seconds=_number(values["prediction_seconds"]),
            peak_memory_bytes=_number(values["peak_memory_bytes"]),
            device=str(values["device"]),
        ),
        paper=None if paper is None else float(paper),
    )


def _to_difference(values: Mapping[str, Any]) -> Difference:
    return Difference(
        dice=_to_estimate(values),
        better=int(values["better_cases"]),
        cases=int(values["cases"]),
        p=_number(values["wilcoxon_p"]),
        p_corrected=_number(values["wilcoxon_p_holm"]),
    )


def _to_estimate(values: Mapping[str, Any]) -> Estimate:
    return Estimate(*(_number(values[name]) for name in ("value", "low", "high")))


def _check_shape(found: Comparison) -> None:
    """Every row has all cases and classes, and there is a row."""
    first = found.rows[0]
    for row in found.rows:
        if len(row.by_case) != len(found.held_out) or list(row.classes) != list(first.classes) or not row.seeds:
            raise ValueError(f"{row.arm}: other cases or classes than {first.arm}")


def _decoder_flops(network: Network) -> int | None:
    return None if network.encoder_flops is None else network.flops - network.encoder_flops


def _interval(found: Estimate) -> dict[str, float | None]:
    return {"value": _plain(found.value), "low": _plain(found.low), "high": _plain(found.high)}


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
