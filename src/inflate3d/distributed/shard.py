"""One share of many scans, for job schedulers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from inflate3d.errors import ConfigError

Item = TypeVar("Item")

_SLURM = "--shard $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"


@dataclass(frozen=True)
class Shard:
    """One of several shares of the work; the first is number 1.

    Attributes:
        number: Number of the share, 1 to ``count``.

    Examples:
        >>> Shard.parse("2/3").share(["a", "b", "c", "d", "e"])
        ['b', 'e']
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parses a shard such as ``3/16``."""
        parts = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if parts is None:
            raise ConfigError(
                "invalid shard",
                expected="--shard NUMBER/COUNT, such as 3/16",
                got=text,
                hint=f"in a SLURM array, {_SLURM}",
            )
        number, count = map(int, parts.groups())
        if not 1 <= number <= count:
            raise ConfigError(
                "invalid shard: the first is number 1",
                expected=f"--shard 1/{count} to {count}/{count}" if count else "a count of 1 or more",
                got=text,
                hint=f"start the SLURM array at 1: #SBATCH --array=1-{count or 16}, and {_SLURM}",
            )
        return cls(number, count)

    @property
    def name(self) -> str:
        """For file names, such as ``3-of-16``."""
        return f"{self.number}-of-{self.count}"

    def share(self, items: Sequence[Item]) -> list[Item]:
        """The items of this shard: every ``count``-th one, because neighbors are often alike."""
        return list(items[self.number - 1 :: self.count])

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"
