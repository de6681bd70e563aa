"""A file is the old one or the new one."""

import pytest

from eitherway.base import files


def test_it_is_written_whole_and_folders_are_made(tmp_path):
    path = files.write(tmp_path / "a" / "b.txt", "größer")
    assert path.read_text(encoding="utf-8") == "größer" and [p.name for p in path.parent.iterdir()] == ["b.txt"]


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = files.write(tmp_path / "b.bin", b"old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write(path, b"new")
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "there" / "file.txt")
    assert files.write(link, "new") == link
    assert link.is_symlink()
    assert (tmp_path / "there" / "file.txt").read_text() == "new"


def test_a_pipe_is_written_to_and_never_replaced(tmp_path):
    import os
    import stat
    import threading

    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    files.write(pipe, "through")
    reader.join(10)
    assert read == [b"through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
