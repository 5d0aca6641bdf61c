"""The commit is read from git's own files, of a checkout that is ours."""

import subprocess
from pathlib import Path

import inflate3d
from inflate3d.provenance.code import find_checkout, read_commit, this_code

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_commit_of_a_branch_a_detached_head_and_packed_branches(tmp_path):
    git = tmp_path / ".git"
    write(git / "HEAD", f"{COMMIT}\n")
    assert read_commit(tmp_path) == COMMIT
    write(git / "HEAD", "ref: refs/heads/some/branch\n")
    assert read_commit(tmp_path) is None  # nothing is committed yet
    write(
        git / "packed-refs",
        f"# pack-refs with: peeled\n{'f' * 40} refs/heads/branch\n{COMMIT} refs/heads/some/branch\n",
    )
    assert read_commit(tmp_path) == COMMIT
    write(git / "refs/heads/some/branch", "a" * 40 + "\n")
    assert read_commit(tmp_path) == "a" * 40  # a loose one is newer than a packed one


def test_commit_of_a_further_work_tree(tmp_path):
    tree, git = tmp_path / "tree", tmp_path / "main" / ".git"
    write(tree / ".git", "gitdir: ../main/.git/worktrees/tree\n")
    write(git / "worktrees/tree/HEAD", "ref: refs/heads/branch\n")
    write(git / "worktrees/tree/commondir", "../..\n")
    write(git / "refs/heads/branch", f"{COMMIT}\n")
    assert read_commit(tree) == COMMIT


def test_no_commit_of_a_damaged_checkout(tmp_path):
    write(tmp_path / ".git", "gitdir: nowhere\n")
    assert read_commit(tmp_path) is None


def test_a_package_in_an_environment_within_another_checkout_is_none_of_that(tmp_path):
    write(tmp_path / ".git/HEAD", f"{COMMIT}\n")
    write(tmp_path / "pyproject.toml", "")
    assert find_checkout(tmp_path / ".venv/lib/site-packages/inflate3d") is None
    assert find_checkout(tmp_path / "src/inflate3d") == tmp_path


def test_the_code_that_is_running():
    code = this_code()
    assert code.version == inflate3d.__version__
    root = Path(inflate3d.__file__).parents[2]
    if (root / ".git").exists():
        told = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        assert told.returncode != 0 or code.commit == told.stdout.strip()
