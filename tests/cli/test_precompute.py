"""`fewstep precompute`: what train would draw, by one worker or several, and a look at it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import forks
from tests.said import error

from fewstep.cli import main
from fewstep.data import precompute
from fewstep.data.shards import shard_path


@pytest.fixture
def words(options: list[str], tmp_path: Path) -> list[str]:
    own = ["--data.cache", str(tmp_path / "cache"), "--data.samples.shard", "2"]
    return ["ladd_shapes", *options, *own]


def test_train_finds_what_it_would_draw(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main(["precompute", *words, "--dry-run", "--per-hour", "3.6e6"]) == 0
    said = capsys.readouterr().out
    assert "6 samples of 2 steps, 24 passes of the model" in said and "at 3.6e+06 an hour" in said
    assert "would draw into" in said and not (tmp_path / "cache").exists()
    assert main(["precompute", *words]) == 0
    [directory] = (tmp_path / "cache").iterdir()
    said = capsys.readouterr().out
    assert "6 of 6 samples in 3 of 3 files" in said and "index.parquet is there" in said
    assert f"fewstep precompute verify {directory}" in said

    def drawn(*_: object) -> None:
        raise AssertionError("a sample was drawn again")

    monkeypatch.setattr(precompute, "draw", drawn)
    assert main(["precompute", *words]) == 0
    assert main(["train", *words, "--out", str(tmp_path / "run")]) == 0


@pytest.mark.fault(6, 7)
def test_verify_names_what_is_damaged_and_sets_it_aside(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["precompute", *words]) == 0
    [directory] = (tmp_path / "cache").iterdir()
    assert main(["precompute", "verify", str(directory)]) == 0
    assert "3 files are what was written, 0 are not there" in capsys.readouterr().out
    path = shard_path(directory, 1)
    before = path.read_bytes()
    path.write_bytes(before[:-9] + b"\x00" + before[-8:])
    capsys.readouterr()
    assert main(["precompute", "verify", str(directory)]) == 2
    found = capsys.readouterr()
    assert "shard_00001.safetensors: its crc32 differs; " in found.out
    assert "1 files in" in found.err and "add --quarantine" in found.err
    assert path.exists()
    assert main(["precompute", "verify", str(directory), "--quarantine"]) == 0
    assert not path.exists()
    assert main(["precompute", "stats", str(directory)]) == 0
    said = capsys.readouterr().out
    assert "4 of 6 samples in 2 of 3 files" in said and "1 damaged files are in" in said
    assert main(["precompute", *words]) == 0
    assert path.read_bytes() == before


def test_a_folder_of_another_key_is_refused_before_anything_is_measured(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = [*words, "--data.directory", str(tmp_path / "own")]
    assert main(["precompute", *own]) == 0
    assert main(["precompute", *own, "--dry-run", "--data.samples.seed", "5"]) == 2
    assert "seed: 0 there, 5 here" in error(capsys)
    assert main(["precompute", *own, "--dry-run"]) == 0
    assert "passes of the model" not in capsys.readouterr().out  # nothing is missing


@pytest.mark.slow
def test_torchrun_starts_workers(words: list[str], tmp_path: Path) -> None:
    assert forks.run(2, lambda rank: main(["precompute", *words])) == [0, 0]
    [directory] = (tmp_path / "cache").iterdir()
    assert main(["precompute", "verify", str(directory)]) == 0


def test_mistakes(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more, message in (
        (["dopsd_shapes", "--data.folder.path", "."], "draws no teacher samples: data.source is"),
        (["ladd_shape"], "there is no recipe 'ladd_shape'"),
        ([], "precompute needs either a recipe or --config FILE"),
        ([*words, "--patience", "0"], "--patience must be a number of seconds > 0"),
        ([*words, "--patience", "inf"], "--patience must be a number of seconds > 0"),
        (["verify", str(tmp_path)], "holds no samples: cache.json: No such file"),
        (["stats", str(tmp_path)], "holds no samples"),
        ([*words, "--data.samples.texts", "live", "--data.samples.picture-share", "0.5"],
         "picture_share is 0.5, but texts are live"),
    ):  # fmt: skip
        assert main(["precompute", *more]) == 2
        assert message in error(capsys)
