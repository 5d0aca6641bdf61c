"""Locks of folders: who holds one, what is left of one, and where there are none."""

import errno
import fcntl
import os
import platform

import pytest

from inflate3d.errors import OutputError
from inflate3d.lock import locked


def test_a_lock_that_a_process_of_another_machine_has_left_is_taken_with_a_warning(tmp_path, caplog):
    (tmp_path / ".lock").write_text("")
    (tmp_path / ".lock.holder").write_text("process 1 on node17")
    with locked(tmp_path / ".lock", tmp_path, remove=True):
        assert (tmp_path / ".lock.holder").read_text(encoding="utf-8").startswith(f"process {os.getpid()} on ")
    assert list(tmp_path.iterdir()) == []
    assert "locked by process 1 on node17" in caplog.text
    caplog.clear()
    (tmp_path / ".lock.holder").write_text(f"process 1 on {platform.node()}")  # killed: its lock would still be here
    with locked(tmp_path / ".lock", tmp_path):
        assert not caplog.records


def test_a_lock_that_another_machine_holds_is_respected_and_names_it(tmp_path):
    with (tmp_path / ".lock").open("w") as held:  # as NFS shows it: held, and not by a process of this machine
        fcntl.flock(held, fcntl.LOCK_EX)
        (tmp_path / ".lock.holder").write_text("process 1 on node17")
        with pytest.raises(OutputError) as caught, locked(tmp_path / ".lock", tmp_path):
            pytest.fail("entered")
    assert (caught.value.got, caught.value.file) == ("process 1 on node17", str(tmp_path))
    assert (tmp_path / ".lock.holder").exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_file_systems_without_locks_are_refused(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OutputError) as caught, locked(tmp_path / "new" / ".lock", tmp_path, remove=True):
        pytest.fail("entered")
    assert caught.value.got == os.strerror(number)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_locks_that_fail_are_an_error_of_ours(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OutputError), locked(tmp_path / ".lock", tmp_path):
        pytest.fail("entered")
