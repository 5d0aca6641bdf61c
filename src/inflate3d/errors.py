"""Errors that a user can cause and fix, and their one form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MOST_ALIKE = 3
"""Problems of one kind that are shown in full."""

MOST_NAMED = 10
"""Further cases with the same problem whose names are listed."""

_UNSHOWN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters and lone surrogates, which file names and headers from elsewhere may contain."""

_LONGEST_PART = 10_000


class Inflate3dError(Exception):
    """An error that the user can fix.

    The command line prints it without a traceback and exits with code 2.

    Examples:
        >>> error = DataError("voxels are NaN or infinite", got="1 of 64 voxels", hint="replace them", case="liver_1")
        >>> print(error)
        voxels are NaN or infinite
          case:     liver_1
          got:      1 of 64 voxels
          hint:     replace them
        >>> isinstance(error, ValueError)
        True

    Args:
        what: What is wrong, in one sentence without a period.
        expected: What was expected.
        got: What was found.
        hint: What the user can do.
        case: Id of the case.
        file: The file concerned.
    """

    def __init__(
        self,
        what: str,
        *,
        expected: object = None,
        got: object = None,
        hint: str | None = None,
        case: str | None = None,
        file: str | Path | None = None,
    ) -> None:
        self.what = plain_text(what)
        self.expected = expected
        self.got = got
        self.hint = hint
        self.case = case
        self.file = None if file is None else str(file)
        super().__init__(self.what)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles the error with its keyword arguments, so that it survives a process boundary."""
        return _rebuild, (type(self), self._parts())

    def with_context(self, *, case: str | None = None, file: str | Path | None = None) -> Inflate3dError:
        """Returns the same error with a case and a file added if it has none."""
        known = {"case": case, "file": None if file is None else str(file)}
        parts = {name: value for name, value in known.items() if value is not None}
        return _rebuild(type(self), {**parts, **self._parts()})

    def to_dict(self) -> dict[str, Any]:
        """All parts of the error as plain strings, for ``--json``."""
        return dict(self._parts())

    def _parts(self) -> dict[str, str]:
        parts = {
            "what": self.what,
            "case": self.case,
            "file": self.file,
            "expected": self.expected,
            "got": self.got,
            "hint": self.hint,
        }
        return {name: plain_text(str(value)) for name, value in parts.items() if value is not None}

    def __str__(self) -> str:
        details = [f"  {name + ':':<10}{text}" for name, text in self._parts().items() if name != "what"]
        return "\n".join([self.what, *details])


def plain_text(text: str) -> str:
    """Escapes control characters, and shortens texts that are too long to read."""
    if len(text) > _LONGEST_PART:
        kept = _LONGEST_PART - 40  # a shortened text stays under the limit, so it is not shortened twice
        text = f"{text[:kept]} ... and {len(text) - kept} characters more"
    return _UNSHOWN.sub(lambda found: ascii(found[0])[1:-1], text)


class ConfigError(Inflate3dError, ValueError):
    """An invalid option or configuration file."""


class DataError(Inflate3dError, ValueError):
    """An invalid scan, label map or dataset."""


class ModelError(Inflate3dError, ValueError):
    """An invalid backbone, weight file or model folder."""


class OutputError(Inflate3dError, OSError):
    """A result that could not be written."""


class DatasetProblems(DataError):  # noqa: N818 - it is a list of errors
    """All problems of a dataset, or of a batch of scans, in one error.

    Args:
        problems: The individual errors, at least one.
        what: What is wrong in one sentence; by default the number of problems.
        written: Files or addresses that were written nevertheless; ``None`` if nothing was to be written.
    """

    def __init__(
        self,
        problems: Sequence[Inflate3dError],
        *,
        warnings: Sequence[Inflate3dError] = (),
        what: str | None = None,
        written: Sequence[Path | str] | None = None,
    ) -> None:
        self.problems = list(problems)
        self.warnings = list(warnings)
        self.written: list[Path | str] | None = None if written is None else list(written)
        super().__init__(what or f"{len(self.problems)} problem(s) in the dataset")

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles every single error, too."""
        return _rebuild_problems, (self.problems, self.warnings, self.what, self.written)

    def with_context(self, *, case: str | None = None, file: str | Path | None = None) -> DatasetProblems:
        """Returns the same errors, each with a case and a file where it has none yet."""
        return DatasetProblems(
            [problem.with_context(case=case, file=file) for problem in self.problems],
            warnings=[warning.with_context(case=case, file=file) for warning in self.warnings],
            what=self.what,
            written=self.written,
        )

    def to_dict(self) -> dict[str, Any]:
        """All errors under ``problems``, warnings under ``warnings`` and written files under ``written``."""
        return {
            **super().to_dict(),
            "problems": [problem.to_dict() for problem in self.problems],
            "warnings": [warning.to_dict() for warning in self.warnings],
            **({} if self.written is None else {"written": [str(file) for file in self.written]}),
        }

    def __str__(self) -> str:
        """Problems grouped by kind, the first few of each in full."""
        kinds: dict[str, list[Inflate3dError]] = {}
        for problem in self.problems:
            kinds.setdefault(problem.what, []).append(problem)
        lines = [self.what]
        for alike in kinds.values():
            lines.extend(f"- {problem}" for problem in alike[:MOST_ALIKE])
            if len(alike) > MOST_ALIKE:
                lines.append(_others(alike[MOST_ALIKE:]))
        return "\n".join(lines)


def _others(problems: Sequence[Inflate3dError]) -> str:
    """Further problems of one kind in one line."""
    cases = [plain_text(problem.case) for problem in problems if problem.case]
    named = f" ({truncate(cases, MOST_NAMED)})" if cases else ""
    return f"- {problems[0].what}: {len(problems)} more{named}; --json shows all"


def truncate(names: Sequence[str], most: int = 5) -> str:
    """Joins the first names, and says how many more there are.

    Examples:
        >>> truncate(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _rebuild(kind: type[Inflate3dError], parts: dict[str, str]) -> Inflate3dError:
    return kind(parts.pop("what"), **parts)  # type: ignore[arg-type]


def _rebuild_problems(
    problems: list[Inflate3dError], warnings: list[Inflate3dError], what: str, written: list[Path | str] | None
) -> DatasetProblems:
    return DatasetProblems(problems, warnings=warnings, what=what, written=written)
