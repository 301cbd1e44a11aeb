"""Samples that are broken in real files, met by the real command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from tests.said import error
from tests.unit.test_folder import put, read

from fewstep.cli import INTERRUPTED, main
from fewstep.data.cache import Row, write_shard
from fewstep.data.picture_cache import checksum
from fewstep.families.base import Cond
from fewstep.families.zimage import ZImageBackbone
from fewstep.runs import read_metrics


def rewrite(shard: Path, change: str, row: int) -> Row:
    """Make one row of a shard not finite, under a checksum that fits; the row."""
    tensors, facts = load_file(shard), json.loads(shard.with_suffix(".json").read_bytes())
    rows = [Row(**each) for each in facts["rows"]]
    tokens = list(tensors["tokens"].split(tensors["lengths"].tolist()))
    if change == "latent":
        tensors["x0"][row, 0, 1, 2] = torch.inf
    else:
        tokens[row][-1, 0] = torch.nan
    write_shard(shard, rows, tensors["x0"], Cond(tuple(tokens)))
    return rows[row]


@pytest.mark.fault(8)
@pytest.mark.slow
@pytest.mark.parametrize("change", ["latent", "condition"])
def test_a_row_of_a_shard_that_is_not_finite_is_named_before_the_forward_pass(
    change: str, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    samples, out = tmp_path / "samples", tmp_path / "run"
    words = ["train", "ladd_shapes", *options, "--data.directory", str(samples), "--engine",
             "plain", "--data.batch-size", "2", "--loop.steps", "6", "--out", str(out)]  # fmt: skip
    with monkeypatch.context() as patch:  # the samples alone
        patch.setattr("fewstep.cli.commands.open_run", stop)
        assert main(words) == INTERRUPTED
    [shard] = samples.glob("shard_*.safetensors")
    bad = rewrite(shard, change, row=3)
    seen: list[bool] = []
    real = ZImageBackbone.forward

    def forward(self: ZImageBackbone, x: torch.Tensor, sigma: torch.Tensor, cond: Cond):
        seen.append(bool(x.isfinite().all()) and all(bool(t.isfinite().all()) for t in cond.tokens))
        return real(self, x, sigma, cond)

    monkeypatch.setattr(ZImageBackbone, "forward", forward)
    capsys.readouterr()
    assert main(words) == 2
    said = error(capsys)
    assert f"the {change} of sample {bad.id} is not finite (1 of " in said
    assert seen and all(seen)
    assert not any(row.get("skipped") for row in read_metrics(out))


def stop(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.fault(8)
def test_a_picture_whose_context_is_not_finite_is_named(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Behind a checksum that fits: only the values tell."""
    put(tmp_path / "pictures/0.png", "a cat", width=64, height=64)
    words = [
        "train", "dopsd_shapes", "--model", str(model), "--engine", "plain", "--data.cache",
        str(tmp_path / "cache"), "--data.folder.path", str(tmp_path / "pictures"),
        "--data.folder.prompts", "none", "--data.prior", "none", "--method.tether-weight", "0",
        "--check.pictures", "0", "--data.batch-size", "2", "--sampling.prompts", "1",
        "--retention.every", "0", "--out", str(tmp_path / "run"),
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fewstep.cli.commands.open_run", stop)
        assert main(words) == INTERRUPTED
    for path in (tmp_path / "cache/pictures").glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            key, value = json.loads(file.metadata()["key"]), file.get_tensor("value")
        if "prompt" in key and "picture" in key:
            value[0, 0] = torch.nan
            header = {"key": json.dumps(key, sort_keys=True), "crc32": str(checksum(value))}
            path.write_bytes(save({"value": value}, metadata=header))
    capsys.readouterr()
    assert main(words) == 2
    said = error(capsys)
    [picture] = read(tmp_path / "pictures").pictures
    assert f"the context of sample {picture.content} is not finite" in said


ODD = ["\U0001f431 on a mat", "\u05e9\u05dc\u05d5\u05dd on the left", "a cat", "a dog", "a dog",
       "", "   ", "a bus", "a fox", "word " * 600]  # fmt: skip


@pytest.mark.fault(19)
def test_odd_prompts_of_a_file_are_told_and_trained_on_once(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "prompts.txt", tmp_path / "run"
    file.write_text("\ufeff" + "\r\n".join(ODD), encoding="utf-8")
    words = [
        "train", "ladd_shapes", *options, "--engine", "plain", "--world", "none",
        "--data.prompts-file", str(file), "--data.samples.prompts", "7", "--loop.steps", "1",
        "--data.directory", str(tmp_path / "samples"), "--out", str(out),
    ]  # fmt: skip
    warning = "warning: of the 60"
    assert main([*words, "--dry-run"]) == 0
    assert f"# {warning}" in capsys.readouterr().out
    assert main(words) == 0
    said = capsys.readouterr().out
    assert (
        said.count(warning) == 1
        and "tokens of the prompt 'word word" in said
        and "the model reads 224" in said
    )
    [shard] = (tmp_path / "samples").glob("shard_*.json")
    rows = json.loads(shard.read_bytes())["rows"]
    good = [text.strip() for text in dict.fromkeys(ODD) if text.strip()]
    assert [row["prompt"] for row in rows] == good
    assert len({row["id"] for row in rows}) == len(good) == 7


@pytest.mark.fault(19)
def test_lines_that_are_no_text_are_named(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes(b"\n".join([b"a cat", b"\xff\xfe", b"a dog", b"caf\xe9"]))
    words = ["train", "ladd_shapes", *options, "--world", "none", "--data.prompts-file", str(file)]
    assert main([*words, "--out", str(tmp_path / "run"), "--dry-run"]) == 2
    said = error(capsys)
    assert "data.prompts_file: 2 lines of the prompts file" in said
    assert "are not UTF-8 (line 2, 4); `fewstep prompts" in said
