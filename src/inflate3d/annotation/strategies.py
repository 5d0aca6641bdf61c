"""Strategies: in which order unlabeled cases should be labeled.

A strategy is a function of all cases, labeled or not, and of a random generator. `STRATEGIES` lists the built-in ones;
`register_strategy` adds another, which the command line and the server then offer, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from inflate3d.errors import ConfigError

FOREGROUND_SHARE = 2 / 3
"""Share of the cases that `foreground_random` draws by class: nnActive's stronger baseline has 66 % of foreground."""

FEWEST_LABELED, MOST_LABELED = 5, 40
"""Numbers of labeled cases between which `diverse` goes from exploring to exploiting."""

LARGEST_BETA = 100.0

_SMALLEST = 1e-6
"""Uncertainty of a class that is certain; its logarithm is finite."""


@dataclass(frozen=True)
class Candidate:
    """What is known of a case.

    Attributes:
        name: Its unique name.
        labeled: Whether it has a label map from a person; strategies order only the others.
        confidence: Confidence of its prediction for each class by name (`inflate3d.inference.uncertainty.Confidence`),
            0 to 1; NaN for a class that is not predicted. None if the case has not been predicted.

    Examples:
        >>> case = Candidate("case7", confidence={"liver": 0.9, "tumor": 0.5})
        >>> case.predicted, round(case.uncertainty, 2)
        (('liver', 'tumor'), 0.3)
    """

    name: str
    labeled: bool = False
    confidence: Mapping[str, float] | None = None

    @property
    def known(self) -> dict[str, float]:
        """Confidence of the classes that are predicted."""
        return {name: value for name, value in (self.confidence or {}).items() if not math.isnan(value)}

    @property
    def predicted(self) -> tuple[str, ...]:
        """Names of the classes that are predicted."""
        return tuple(self.known)

    @property
    def uncertainty(self) -> float:
        """One less the mean confidence of the predicted classes; NaN if there are none."""
        return 1 - sum(self.known.values()) / len(self.known) if self.known else math.nan


Strategy = Callable[[Sequence[Candidate], np.random.Generator], list[str]]
"""Returns the names of all unlabeled cases, the one to label next first."""


@dataclass(frozen=True)
class RegisteredStrategy:
    """A strategy by its name.

    Attributes:
        about: What it does, in words.
        needs_predictions: Whether it is no better than chance without the predictions of a model.
    """

    about: str
    order: Strategy
    needs_predictions: bool = True


def random(cases: Sequence[Candidate], generator: np.random.Generator) -> list[str]:
    """All unlabeled cases in random order."""
    return _shuffled(_unlabeled(cases), generator)


def foreground_random(cases: Sequence[Candidate], generator: np.random.Generator) -> list[str]:
    """Random, but two in three cases are drawn among those in which a randomly drawn class is predicted.

    Most published methods fail to beat this baseline (nnActive: Lüth et al. 2025, arXiv:2511.19183, where it draws
    patches; here it draws whole scans). Where every class is in every scan, it is the same as `random`.
    """
    left = _unlabeled(cases)
    order: list[str] = []
    while left:
        classes = sorted({name for case in left for name in case.predicted})
        among = left
        if classes and generator.random() < FOREGROUND_SHARE:
            drawn = classes[generator.integers(len(classes))]
            among = [case for case in left if drawn in case.predicted]
        chosen = among[generator.integers(len(among))]
        order.append(chosen.name)
        left.remove(chosen)
    return order


def uncertainty(cases: Sequence[Candidate], generator: np.random.Generator) -> list[str]:
    """The least confident prediction first; ties in random order.

    Cases in which no class is predicted, or which have not been predicted, are last: nothing is known of them.
    """
    left = _shuffled_cases(_unlabeled(cases), generator)
    return [case.name for case in sorted(left, key=lambda case: -case.uncertainty if case.known else math.inf)]


def diverse(cases: Sequence[Candidate], generator: np.random.Generator) -> list[str]:
    """Class by class the least confident, with noise that fades as more cases are labeled.

    After ClaSP PE (Lüth, Traub et al. 2026, arXiv:2601.13677), which chooses patches by their predictive entropy; here
    whole scans are chosen by one less the confidence of a class. Classes take turns, so that rare ones are not
    forgotten. A class takes the case with the largest ``log(uncertainty) + Gumbel(0, 1 / beta)``, which draws cases in
    proportion to ``uncertainty ** beta`` (Kirsch et al. 2023, arXiv:2106.12059). ``beta`` grows on a logarithmic scale
    from 1 with 5 labeled cases to 100 with 40. Cases without a prediction are last.
    """
    left = _unlabeled(cases)
    beta = noise_beta(sum(case.labeled for case in cases))
    classes = sorted({name for case in left for name in case.predicted})
    noisy = {
        name: {
            case.name: math.log(max(1 - case.known[name], _SMALLEST)) + generator.gumbel(0, 1 / beta)
            for case in left
            if name in case.predicted
        }
        for name in classes
    }
    turns = [classes[place] for place in generator.permutation(len(classes))]
    order: list[str] = []
    while any(noisy.values()):
        for name in turns:
            if remaining := noisy[name]:
                chosen = max(remaining, key=remaining.__getitem__)
                order.append(chosen)
                for scores in noisy.values():
                    scores.pop(chosen, None)
    return order + _shuffled([case for case in left if not case.predicted], generator)


def noise_beta(labeled: int) -> float:
    """The exponent of `diverse` with this many labeled cases."""
    share = math.log(max(labeled, 1) / FEWEST_LABELED) / math.log(MOST_LABELED / FEWEST_LABELED)
    return LARGEST_BETA ** min(max(share, 0.0), 1.0)


STRATEGIES: dict[str, RegisteredStrategy] = {
    "random": RegisteredStrategy("in random order", random, needs_predictions=False),
    "foreground-random": RegisteredStrategy(
        "in random order, two in three among the scans in which a randomly drawn class is predicted", foreground_random
    ),
    "uncertainty": RegisteredStrategy("the least confident prediction first", uncertainty),
    "diverse": RegisteredStrategy(
        "class by class the least confident, with noise that fades as more cases are labeled", diverse
    ),
}

DEFAULT_STRATEGY = "foreground-random"
"""The default where there are predictions: most published ones fail to beat it (arXiv:2511.19183)."""


def register_strategy(name: str, about: str, order: Strategy, *, needs_predictions: bool = True) -> None:
    """Adds a strategy of your own.

    Args:
        name: Its name on the command line.
        about: What it does, such as ``the least confident prediction first``.
        order: Returns the names of all unlabeled cases, the one to label next first.
        needs_predictions: Whether it is no better than chance without the predictions of a model.

    Raises:
        ConfigError: The name is taken.

    Examples:
        >>> register_strategy("by-name", "in the order of their names", lambda cases, generator: sorted(
        ...     case.name for case in cases if not case.labeled), needs_predictions=False)
        >>> order_cases("by-name", [Candidate("b"), Candidate("a"), Candidate("c", labeled=True)])
        ['a', 'b']
        >>> del STRATEGIES["by-name"]
    """
    if name in STRATEGIES:
        raise ConfigError("a strategy with this name already exists", got=name, hint="choose another name")
    STRATEGIES[name] = RegisteredStrategy(about, order, needs_predictions)


def find_strategy(name: str) -> RegisteredStrategy:
    """The strategy of this name.

    Raises:
        ConfigError: There is none.
    """
    if name not in STRATEGIES:
        raise ConfigError("unknown strategy", expected=", ".join(STRATEGIES), got=name)
    return STRATEGIES[name]


def order_cases(name: str, cases: Sequence[Candidate], seed: int = 0) -> list[str]:
    """The unlabeled cases in the order of a strategy; the same for the same cases and seed.

    Args:
        name: Name of the strategy.
        cases: All cases, the labeled ones included: how many there are may count.

    Raises:
        ConfigError: The strategy is unknown.

    Examples:
        >>> cases = [Candidate("a", confidence={"liver": 0.9}), Candidate("b", confidence={"liver": 0.4})]
        >>> order_cases("uncertainty", cases)
        ['b', 'a']
    """
    return find_strategy(name).order(cases, np.random.default_rng(seed))


def _unlabeled(cases: Sequence[Candidate]) -> list[Candidate]:
    """In the order of their names, so that the order in which they were found does not count."""
    return sorted((case for case in cases if not case.labeled), key=lambda case: case.name)


def _shuffled_cases(cases: Sequence[Candidate], generator: np.random.Generator) -> list[Candidate]:
    return [cases[place] for place in generator.permutation(len(cases))]


def _shuffled(cases: Sequence[Candidate], generator: np.random.Generator) -> list[str]:
    return [case.name for case in _shuffled_cases(cases, generator)]
