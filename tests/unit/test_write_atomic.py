"""A file is written whole or not at all."""

import os

import pytest
from tests.disk import small_disk
from tests.unit.test_runs import names, no_space

from fewstep import runs
from fewstep.runs import RunError, write_atomic


def test_write_atomic_replaces(tmp_path):
    path = tmp_path / "file"
    write_atomic(path, b"old")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == {"file"}


def test_write_atomic_on_a_planted_error(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(RunError, match=r"could not write .*file: No space left on device;"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == {"file"}


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), runs.replacing(path) as temporary:
        temporary.write_bytes(b"ne")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == {"file"}


def test_write_atomic_on_a_full_disk(tmp_path):
    with small_disk(tmp_path / "disk", "64k") as disk:
        path = disk / "file"
        write_atomic(path, b"old")
        with pytest.raises(RunError, match="No space left"):
            write_atomic(path, bytes(100_000))
        assert path.read_bytes() == b"old"
        assert names(disk) == {"file"}
