"""Collects all user-facing messages of the package into tests/messages.txt, where their wording is reviewed.

    python scripts/messages.py

Messages are the texts of errors (what, expected, got, hint), of log records, and of what commands print. Texts that are
computed are shown as the code that computes them, in braces.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "inflate3d"
GOLDEN = ROOT / "tests" / "messages.txt"

PRINTED = {"print", "log", "debug", "info", "warning", "error"}
"""Methods of a terminal, a console or a logger."""

PRINTERS = {"terminal", "console", "logger", "log", "logging", "_log", "_logger", "LOGGER", "_LOGGER"}
FIELDS = ("expected", "got", "hint")


def collect() -> str:
    """All messages, by module."""
    parts = []
    for path in sorted(PACKAGE.rglob("*.py")):
        found = sorted(set(_messages(ast.parse(path.read_text(encoding="utf-8")))))
        if found:
            parts.append("\n".join([f"[{path.relative_to(PACKAGE).as_posix()}]", *found]))
    return "\n\n".join(parts) + "\n"


def _messages(tree: ast.AST) -> Iterator[str]:
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = _name(call.func)
        if name.endswith("Error") and name[:1].isupper() and call.args:
            fields = {keyword.arg: keyword.value for keyword in call.keywords}
            shown = [f"{field}: {_text(fields[field])}" for field in FIELDS if field in fields]
            yield " | ".join([_text(call.args[0]), *shown])
        elif (
            isinstance(call.func, ast.Attribute)
            and name in PRINTED
            and _name(call.func.value) in PRINTERS
            and call.args
            and (text := _text(call.args[0])).replace("{", "").strip()
        ):
            yield text


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _text(node: ast.AST) -> str:
    """A text as it is written, with what is computed in braces."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return " ".join(node.value.split())
    if isinstance(node, ast.JoinedStr):
        parts = (value.value if isinstance(value, ast.Constant) else _text(value) for value in node.values)
        return " ".join("".join(map(str, parts)).split())
    if isinstance(node, ast.FormattedValue):
        return f"{{{ast.unparse(node.value)}}}"
    return f"{{{ast.unparse(node)}}}"


if __name__ == "__main__":
    GOLDEN.write_text(collect(), encoding="utf-8")
    print(f"{GOLDEN.relative_to(ROOT)}: {len(collect().splitlines())} lines")
