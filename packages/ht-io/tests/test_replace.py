"""The protocol of temporary files."""

import errno
import os
import subprocess
import sys

import pytest
from ht_io import replace
from ht_io.replace import Temporary, check_space, remove_stale, write_all


def test_commit_replaces_and_keeps_permissions(tmp_path):
    target = tmp_path / "x.h5"
    target.write_text("old")
    target.chmod(0o640)
    temporary = Temporary.new(str(target))
    with open(temporary.path, "w") as file:
        file.write("new")
    temporary.commit()
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["x.h5"]


def test_every_rank_forms_the_same_name():
    temporary = Temporary.new("/somewhere/x.h5")
    assert Temporary(temporary.target, temporary.token).path == temporary.path
    assert Temporary.new("/somewhere/x.h5").path != temporary.path
    assert len(os.path.basename(Temporary.new("/a/" + "ü" * 120 + ".h5").path).encode()) <= 255


def test_stale_files_of_dead_processes_go_and_others_stay(tmp_path):
    target = str(tmp_path / "x.h5")
    child = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    dead = Temporary(target, (replace.host_id(), int(child.stdout), 0))
    alive = Temporary(target, (replace.host_id(), os.getpid(), 10**9))
    elsewhere = Temporary(target, (replace.host_id() ^ 1, int(child.stdout), 0))
    other = Temporary(str(tmp_path / "y.h5"), dead.token)
    for one in (dead, alive, elsewhere, other):
        open(one.path, "w").close()
    remove_stale(target)
    assert sorted(os.listdir(tmp_path)) == sorted(os.path.basename(o.path) for o in (alive, elsewhere, other))


def test_space_is_checked_before_writing(tmp_path):
    check_space(str(tmp_path), 1, "save")
    with pytest.raises(OSError, match="save: path must be on a file system with") as caught:
        check_space(str(tmp_path), 1 << 62, "save")
    assert caught.value.errno == errno.ENOSPC


def test_write_all_needs_as_many_calls_as_it_takes(tmp_path):
    path = tmp_path / "x"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT)
    write_all(handle, memoryview(b"0123456789"), 3, limit=4)
    os.close(handle)
    assert path.read_bytes() == b"\0\0\0" + b"0123456789"


def test_a_name_that_must_be_new(tmp_path, monkeypatch):
    target = tmp_path / "x.h5"
    for has_links in (True, False):
        if not has_links:
            monkeypatch.setattr(
                os, "link", lambda *args: (_ for _ in ()).throw(OSError(errno.EPERM, "no links here"))
            )
        temporary = Temporary.new(str(target))
        with open(temporary.path, "w") as file:
            file.write("new")
        temporary.commit(must_be_new=True)
        assert os.listdir(tmp_path) == ["x.h5"]
        open(temporary.path, "w").close()
        with pytest.raises(FileExistsError):
            temporary.commit(must_be_new=True)
        temporary.remove()
        assert target.read_text() == "new"
        target.unlink()
