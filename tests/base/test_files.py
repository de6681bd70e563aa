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
