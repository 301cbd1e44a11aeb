"""The wrong convention differs from the right one exactly as stated, and leaves no trace of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmarks import study_judge
from benchmarks.study_plan import changed
from benchmarks.wrong_convention import PREFIX, WrongConvention, build_wrong
from rich.console import Console
from tests.tiny import tiny_zimage

from fewstep.cli.commands import train
from fewstep.evaluate.generate import fingerprint
from fewstep.families.zimage import ZImage, ZImageBackbone
from fewstep.methods.ladd import LADD
from fewstep.recipes.ladd import ladd_shapes
from fewstep.rng import Rng


@pytest.fixture(scope="module")
def family() -> ZImage:
    return tiny_zimage()


def test_time_is_sigma_and_the_output_passes_for_v(family: ZImage) -> None:
    cond = family.encode_text(["a red circle", "two blue stars on a white background"])
    x, sigma = torch.randn(2, 8, 16, 16), torch.tensor([0.9, 0.25])
    right, transformer = family.backbone, family.pipeline.transformer
    wrong = WrongConvention(right)
    raw = torch.stack(transformer(list(x[:, :, None]), sigma, list(cond.tokens))[0])[:, :, 0]
    torch.testing.assert_close(wrong(x, sigma, cond), raw, atol=1e-6, rtol=1e-5)
    # The right one: time 1 - sigma, and a minus.
    flipped = torch.stack(transformer(list(x[:, :, None]), 1 - sigma, list(cond.tokens))[0])
    torch.testing.assert_close(right(x, sigma, cond), -flipped[:, :, 0])
    assert not torch.allclose(wrong(x, sigma, cond), right(x, sigma, cond), atol=1e-2)
    # At sigma = 1/2 the time is the same either way, and only the sign differs.
    half = torch.tensor([0.5, 0.5])
    assert torch.equal(wrong(x, half, cond), -right(x, half, cond))

    assert isinstance(right, ZImageBackbone)
    for own, other in zip(
        wrong.features(x, sigma, cond, (1, 4)), right.features(x, 1 - sigma, cond, (1, 4)),
        strict=True,
    ):  # fmt: skip
        assert torch.equal(own, other)
    assert wrong.token_grid(x) == right.token_grid(x)


@pytest.fixture(scope="module")
def experiment(family: ZImage, tmp_path_factory: pytest.TempPathFactory):
    base = tmp_path_factory.mktemp("wrong")
    family.save(base / "model", family.backbone)
    return changed(
        ladd_shapes(),
        {
            "engine": "plain", "model": str(base / "model"), "data.cache": str(base / "cache"),
            "data.samples.prompts": 4, "data.samples.steps": 1, "data.samples.picture_share": 0.0,
            "data.batch_size": 2, "loop.steps": 1, "sampling.prompts": 1, "sampling.every": 5,
            "method.student_every": 1, "method.heads_first": 0, "method.heads.hidden": 16,
            "method.heads.embed": 8,
        },
    )  # fmt: skip


def test_build_wrong_trains_on_the_same_samples(experiment, tmp_path: Path) -> None:
    built = build_wrong(experiment, tmp_path)
    ladd = built.method.method  # type: ignore[attr-defined]
    assert isinstance(ladd, LADD)
    assert isinstance(ladd.student, WrongConvention) and isinstance(ladd.teacher, WrongConvention)
    assert isinstance(built.family.backbone, ZImageBackbone)
    # x0_hat = x - sigma * (what the transformer returns at time sigma).
    batch = built.batches(0)[0]
    probs = (0.0, 0.0, 1.0, 0.0)
    sigma = torch.full((2,), experiment.method.student_sigmas[2])
    rng = Rng(0, 0, "x", batch.ids)
    rng.rand()  # the draw of the level
    x = torch.lerp(batch.x0, rng.randn_like(batch.x0), sigma[0].item())
    transformer = built.family.pipeline.transformer  # type: ignore[attr-defined]
    out = torch.stack(transformer(list(x[:, :, None]), sigma, list(batch.cond.tokens))[0])
    with torch.no_grad():
        found = ladd.denoise(batch, Rng(0, 0, "x", batch.ids), probs)
    torch.testing.assert_close(found, x - sigma[0] * out[:, :, 0], atol=1e-5, rtol=1e-4)


def test_the_student_is_exported_as_an_ordinary_model(
    experiment, family: ZImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    console = Console(quiet=True)
    assert train(experiment, out, "a test", console, build_wrong) == 0
    exported = ZImage.load(out / "model").backbone
    assert type(exported) is ZImageBackbone
    assert exported.state_dict().keys() == family.backbone.state_dict().keys()
    assert fingerprint(exported) != fingerprint(family.backbone)  # it moved
    # The raw student in the checkpoint has the wrapper's prefix, which the judge takes off.
    (weights,) = (out / "checkpoints").glob("step_*/module.student.safetensors")
    names = study_judge.load_file(weights).keys()
    assert {n.removeprefix(PREFIX) for n in names} == exported.state_dict().keys()
    assert all(n.startswith(PREFIX) for n in names)
    assert train(experiment, out, "a test", console, build_wrong) == 0  # finished: left alone
