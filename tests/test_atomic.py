import errno
import os

import pytest

from inflate3d.atomic import atomic_path, write_text
from inflate3d.errors import DataError, OutputError


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
    assert final.read_text() == "old"
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
        "remedy": "free some space, or choose a folder on another disk",
    }
    assert names_in(tmp_path) == []


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


def test_text_is_utf8_with_its_own_line_ends(tmp_path):
    write_text(tmp_path / "a.txt", "größe\nx\r\n")
    assert (tmp_path / "a.txt").read_bytes() == "größe\nx\r\n".encode()
