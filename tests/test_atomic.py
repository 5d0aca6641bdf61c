import errno
import os
import platform
import signal
import subprocess
import sys

import pytest

from inflate3d.atomic import atomic_folder, atomic_path, remove_temporaries, write_text
from inflate3d.errors import DataError, OutputError
from inflate3d.lock import locked


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_with_the_end_of_the_block(tmp_path):
    final = tmp_path / "new" / "scan.nii.gz"
    with atomic_path(final) as temporary:
        temporary.write_bytes(b"whole")
        assert not final.exists()
        assert temporary.parent == final.parent
        assert temporary.name.startswith(".")
        assert temporary.name.endswith("scan.nii.gz")
    assert final.read_bytes() == b"whole"
    assert names_in(final.parent) == ["scan.nii.gz"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError, DataError])
def test_failure_leaves_the_old_file_and_no_other(tmp_path, failure):
    final = tmp_path / "plan.json"
    final.write_text("old")
    with pytest.raises(failure), atomic_path(final) as temporary:
        temporary.write_text("half of the n")
        raise failure("stop")
    assert final.read_text(encoding="utf-8") == "old"
    assert names_in(tmp_path) == ["plan.json"]


def test_full_disk_is_the_users_to_mend(tmp_path):
    final = tmp_path / "plan.json"
    with pytest.raises(OutputError) as caught, atomic_path(final) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.to_dict() == {
        "what": "the file can't be written",
        "file": str(final),
        "got": "No space left on device",
        "hint": "free some space, or choose a folder on another disk",
    }
    assert names_in(tmp_path) == []


def test_folder_appears_whole_or_not_at_all(tmp_path):
    final = tmp_path / "new" / "model"
    with pytest.raises(ValueError, match="stop"), atomic_folder(final) as temporary:
        (temporary / "half").touch()
        raise ValueError("stop")
    assert names_in(final.parent) == []
    for attempt in range(2):
        with atomic_folder(final) as temporary:
            (temporary / "network").write_text(str(attempt))
            assert not final.exists() or not names_in(final)
        assert names_in(final) == ["network"]
        if not attempt:
            (final / "network").unlink()  # an empty folder is replaced
    with pytest.raises(OutputError) as caught, atomic_folder(final) as temporary:
        (temporary / "network").write_text("another")
    assert (caught.value.what, caught.value.got) == ("the folder can't be written", "Directory not empty")
    assert (final / "network").read_text(encoding="utf-8") == "1"
    assert names_in(final.parent) == ["model"]


def test_refusal_of_the_replacement_removes_the_temporary_file(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        write_text(tmp_path / "taken", "text")
    assert names_in(tmp_path) == ["taken"]


def test_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a part of the path is a file"):
        write_text(tmp_path / "file" / "plan.json", "text")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="change its permissions"):
        write_text(tmp_path / "plan.json", "text")


def test_two_writers_of_a_process_do_not_meet(tmp_path):
    final = tmp_path / "plan.json"
    with atomic_path(final) as first, atomic_path(final) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert final.read_text(encoding="utf-8") == "first"  # the last to end
    assert names_in(tmp_path) == ["plan.json"]


def test_forked_process_does_not_hold_the_lock_of_its_parent(tmp_path):
    with locked(tmp_path / "lock", tmp_path):
        child = os.fork()
        if not child:
            signal.pause()
            os._exit(0)
    try:
        with locked(tmp_path / "lock", tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


HOLDER = """
import sys, time
from pathlib import Path
from inflate3d.lock import locked
with locked(Path(sys.argv[1], "lock"), Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


def test_lock_names_its_process_and_dies_with_it(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(OutputError) as caught, locked(tmp_path / "lock", tmp_path, remove=True):
            pass
        assert caught.value.got == f"process {process.pid} on {platform.node()}"
        process.kill()
    with locked(tmp_path / "lock", tmp_path, remove=True):
        pass
    assert names_in(tmp_path) == []


def test_what_a_kill_has_left_is_removed(tmp_path):
    for name in (".0123abcd-last.ckpt", ".lock", ".hidden-file", "last.ckpt"):
        (tmp_path / name).touch()
    remove_temporaries(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".lock", ".hidden-file", "last.ckpt"}


def test_text_is_utf8_with_its_own_line_ends(tmp_path):
    write_text(tmp_path / "a.txt", "größe\nx\r\n")
    assert (tmp_path / "a.txt").read_bytes() == "größe\nx\r\n".encode()
