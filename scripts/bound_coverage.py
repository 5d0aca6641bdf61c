"""How often the Dice of held-out cases reaches the lower bound of the expected Dice, which is stated at 90 %.

    python scripts/bound_coverage.py RUN

RUN has been evaluated. Of its held-out cases some are drawn to calibrate on, and the bound is compared with the Dice of
the others; 200 draws for each number of cases, patients kept together.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from inflate3d.evaluation.calibration import LEVEL, MEAN, CalibrationPairs, find_calibration

DRAWS = 200
SIZES = (10, 20, 40, 80)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path)
    calibration = find_calibration(parser.parse_args().run)
    assert calibration is not None, "evaluate the run first"
    print(
        f"| cases to calibrate on | class | Dice at least the bound (stated: {LEVEL:.0%}) | bound below the Dice by | "
        "mean error of the expected Dice | of the confidence itself |\n|" + " --- |" * 6
    )
    for size in SIZES:
        for name in (*(each for each in calibration.classes if each != MEAN), MEAN):
            pairs = calibration.classes[name]
            if len(pairs.dice) >= 2 * size:
                print(f"| {size} | {name} | {_row(pairs, size)} |", flush=True)


def _row(pairs: CalibrationPairs, size: int) -> str:
    confidence, dice, group = (np.array(each) for each in (pairs.confidence, pairs.dice, pairs.group))
    reached, slack, errors, raw = [], [], [], []
    for draw in range(DRAWS):
        random = np.random.default_rng(draw)
        order = np.argsort(random.permutation(group.max() + 1)[group], kind="stable")
        chosen, rest = order[:size], random.permutation(order[size:])[:20]
        known = CalibrationPairs(
            confidence=confidence[chosen].tolist(), dice=dice[chosen].tolist(), group=group[chosen].tolist()
        )
        for place in rest:
            expected = known.expect(float(confidence[place]))
            assert expected is not None
            reached.append(dice[place] >= expected.low)
            slack.append(dice[place] - expected.low)
            errors.append(abs(expected.value - dice[place]))
            raw.append(abs(confidence[place] - dice[place]))
    cells = [f"{np.mean(reached):.1%}", f"{np.mean(slack):.3f}", f"{np.mean(errors):.3f}", f"{np.mean(raw):.3f}"]
    return " | ".join(cells)


if __name__ == "__main__":
    main()
