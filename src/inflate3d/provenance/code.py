"""Which code of inflate3d ran: its version, and the commit where it is a checkout or was installed from one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import inflate3d
from inflate3d.settings import FrozenModel

_PACKAGE = Path(inflate3d.__file__).resolve().parent
_GIT_SECONDS = 10


class Code(FrozenModel):
    """The code of inflate3d itself.

    Attributes:
        version: Of the package.
        commit: Of the checkout that it is in, or was installed from; none if it is from a package index.
        modified: Whether files of the checkout were changed since; none where that can't be told.
    """

    version: str
    commit: str | None
    modified: bool | None


def this_code() -> Code:
    """The code that is running."""
    checkout = find_checkout(_PACKAGE)
    if checkout is None:
        return Code(version=inflate3d.__version__, commit=_installed_commit(), modified=None)
    return Code(version=inflate3d.__version__, commit=read_commit(checkout), modified=_modified(checkout))


def find_checkout(package: Path) -> Path | None:
    """The checkout that a package's folder is the source of; none where it only lies in another project's.

    Args:
        package: Such as ``CHECKOUT/src/inflate3d``.
    """
    root = package.parent.parent
    ours = package.parent.name == "src" and (root / "pyproject.toml").is_file() and (root / ".git").exists()
    return root if ours else None


def read_commit(checkout: Path) -> str | None:
    """The commit that is checked out, from git's own files, as git may not be installed; none without one.

    Args:
        checkout: The folder with ``.git``: a folder, or a file where it is a further work tree.
    """
    try:
        folder = checkout / ".git"
        if folder.is_file():
            folder = checkout / folder.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
        head = (folder / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref:"):
            return head
        name = head.removeprefix("ref:").strip()
        shared = folder / "commondir"
        root = folder / shared.read_text(encoding="utf-8").strip() if shared.is_file() else folder
        loose = [each / name for each in (folder, root) if (each / name).is_file()]
        return loose[0].read_text(encoding="utf-8").strip() if loose else _packed(root, name)
    except (OSError, UnicodeDecodeError):
        return None


def _packed(folder: Path, name: str) -> str | None:
    """A branch's commit from the file that git gathers old branches in."""
    packed = folder / "packed-refs"
    lines = packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {name}")), None)


def _modified(checkout: Path) -> bool | None:
    """Whether tracked files were changed; only git itself can tell."""
    git = shutil.which("git")
    if git is None:
        return None
    words = [git, "-C", str(checkout), "status", "--porcelain", "--untracked-files=no", "--", "src"]
    quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        told = subprocess.run(words, capture_output=True, text=True, timeout=_GIT_SECONDS, env=quiet, check=False)  # noqa: S603 - no word is a user's
    except (OSError, subprocess.TimeoutExpired):
        return None
    return bool(told.stdout.strip()) if told.returncode == 0 else None


def _installed_commit() -> str | None:
    """The commit that pip installed from, where it was told a repository."""
    try:
        told = distribution("inflate3d").read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    return json.loads(told).get("vcs_info", {}).get("commit_id") if told else None
