"""Samples that are broken in real files, met by the real command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from tests.said import error
from tests.shards import rescaled, spoiled
from tests.tiny import tiny_zimage
from tests.unit.test_folder import put, read

from fewstep.cli import INTERRUPTED, main
from fewstep.data.picture_cache import checksum
from fewstep.data.scale import LEAST, MOST, SHIFT, check_scale
from fewstep.data.shards import read_shard
from fewstep.experiment.models import load_family
from fewstep.families.zimage import ZImageBackbone
from fewstep.runs import read_metrics
from fewstep.worlds.shapes.world import Shapes


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
    bad = spoiled(shard, change, row=3)
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


def of_pictures(model: Path, root: Path) -> list[str]:
    """A run on one picture and nothing besides."""
    put(root / "pictures/0.png", "a cat", width=64, height=64)
    return [
        "train", "dopsd_shapes", "--model", str(model), "--engine", "plain", "--data.cache",
        str(root / "cache"), "--data.folder.path", str(root / "pictures"),
        "--data.folder.prompts", "none", "--data.prior", "none", "--method.tether-weight", "0",
        "--check.pictures", "0", "--data.batch-size", "2", "--sampling.prompts", "1",
        "--retention.every", "0", "--out", str(root / "run"),
    ]  # fmt: skip


@pytest.mark.fault(8)
def test_a_picture_whose_context_is_not_finite_is_named(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Behind a checksum that fits: only the values tell."""
    words = of_pictures(model, tmp_path)
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
    [shard] = (tmp_path / "samples").glob("shard_*.safetensors")
    rows = [stored.row for stored in read_shard(shard).rows]
    good = [text.strip() for text in dict.fromkeys(ODD) if text.strip()]
    assert [row.prompt for row in rows] == good
    assert len({row.id for row in rows}) == len(good) == 7


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


@pytest.mark.fault(15)
@pytest.mark.slow
@pytest.mark.parametrize(("scale", "shift"), [(2.77, 0.0), (0.02, 0.0), (1.0, 1.0)])
def test_samples_in_other_units_are_refused_with_their_statistics(
    scale: float, shift: float, options: list[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """As an autoencoder's scale of 0.36 that was left out, one that came in twice, and a shift."""
    samples = tmp_path / "samples"
    words = ["train", "ladd_shapes", *options, "--engine", "plain", "--data.directory",
             str(samples), "--out", str(tmp_path / "run")]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fewstep.cli.commands.open_run", stop)
        assert main(words) == INTERRUPTED
    [shard] = samples.glob("shard_*.safetensors")
    x0 = load_file(shard)["x0"]
    rescaled(shard, scale, shift)
    capsys.readouterr()
    assert main(words) == 2
    size = float((scale * x0 + shift).square().mean().sqrt())
    said = error(capsys)
    assert f"the latents in {samples} are of another scale than the model's" in said
    assert f"root mean square is {size:.3g} (about 1" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.fault(15)
def test_pictures_that_are_encoded_in_other_units_are_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(model, tmp_path / "model")
    config = json.loads((other / "vae/config.json").read_text())
    (other / "vae/config.json").write_text(json.dumps({**config, "scaling_factor": 30}))
    assert main(of_pictures(other, tmp_path)) == 2
    assert f"the latents of {tmp_path / 'pictures'} are of another scale" in error(capsys)


@pytest.mark.fault(15)
def test_no_set_of_pictures_or_samples_is_near_a_limit() -> None:
    """Shapes as it comes, of sets that are as far out as can be; and weights that are random."""
    world, family = Shapes(), load_family("shapes", torch.device("cpu"))
    truth = world.truth(world.prompts("train", 16), range(16))
    odd = [truth, torch.zeros_like(truth[:2]), torch.ones_like(truth[:2]), torch.rand(4, 3, 64, 64)]
    for images in odd:
        size, mean = size_and_mean(family.encode_image(images))
        assert 0.5 < size < MOST / 1.5 and abs(mean) < SHIFT / 2
    for seed in range(3):
        size, _ = size_and_mean(tiny_zimage(seed).encode_image(truth))
        assert LEAST * 2 < size < MOST


def size_and_mean(x0: torch.Tensor) -> tuple[float, float]:
    check_scale([*x0], "the latents")
    return float(x0.square().mean().sqrt()), float(x0.mean())
