"""Teacher samples: independent of order, batch and interruption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.toy import ToyBackbone
from torch.testing import assert_close

from fewstep.data.cache import SampleCache
from fewstep.data.drawing import chunks
from fewstep.data.leases import PATIENCE
from fewstep.data.precompute import precompute
from fewstep.data.task import task_of
from fewstep.data.teacher import TeacherSamples, rows_of
from fewstep.data.told import Told, quiet
from fewstep.errors import UserError
from fewstep.families.base import Backbone, Cond
from fewstep.flow.guidance import guided
from fewstep.flow.sample import euler
from fewstep.flow.sigmas import grid
from fewstep.rng import Rng, seed_of
from fewstep.shapes import Latent, Pixels

CFG = TeacherSamples(prompts=10, steps=3, guidance=2.5, seed=7, batch=4, shard=4)
PROMPTS = [
    "a red circle",
    "two blue squares",
    "a red circle",
    *(f"thing {i}" * i for i in range(7)),
]


class ToyFamily:
    """A family around the toy backbone: a prompt's tokens come from its text."""

    def __init__(self, seed: int = 0) -> None:
        self.backbone: Backbone = ToyBackbone(seed=seed).requires_grad_(False)
        self.seed = seed
        self.encoded: list[str] = []

    def encode_text(self, prompts: Sequence[str], images: Pixels | None = None) -> Cond:
        self.encoded += prompts
        tokens = [Rng(0, 0, "t", [p]).randn(1 + len(p.split()), 6)[0] for p in prompts]
        if images is not None:
            tokens = [t + i.mean() for t, i in zip(tokens, images, strict=True)]
        return Cond(tuple(tokens))

    def encode_image(self, images: Pixels) -> Latent:
        return images[:, :2]

    def decode(self, x0: Latent) -> Pixels:
        return x0[:, [0, 1, 0]]

    unit = 16

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        return 2, height // 16, width // 16

    def sigmas(self, steps: int) -> tuple[float, ...]:
        return grid(steps, 3.0)

    def fingerprint(self) -> str:
        return f"toy {self.seed}"

    def save(self, directory: Path, backbone: Backbone) -> None:
        raise NotImplementedError


def shown(prompts: Sequence[str], seeds: Sequence[int]) -> tuple[list[str], Pixels]:
    """Every second prompt becomes another one, as a world may do."""
    texts = [f"{p} as shown" if s % 2 else p for p, s in zip(prompts, seeds, strict=True)]
    return texts, torch.stack([torch.full((3, 8, 8), float(s % 1000)) for s in seeds])


def made(
    cfg: TeacherSamples, family: ToyFamily, prompts: Sequence[str], root: Path, *,
    told: Told = quiet, patience: float = PATIENCE, **more: Any,
) -> SampleCache:  # fmt: skip
    return precompute(task_of(cfg, family, prompts, root, **more), told, patience=patience)


def contents(cache: SampleCache) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    x0, cond = cache.take(range(len(cache)))
    return {name: (x, t) for name, x, t in zip(cache.ids, x0, cond.tokens, strict=True)}


def test_samples_are_guided_euler_from_noise_of_their_own(tmp_path: Path) -> None:
    family = ToyFamily()
    cache = made(CFG, family, PROMPTS, tmp_path)
    position = 4
    x0, cond = cache.take([position])
    eps = Rng(7, 0, "teacher", [cache.ids[position]]).randn(2, 4, 4)
    own, empty = family.encode_text([PROMPTS[position]]), family.encode_text([""])
    expected = euler(guided(family.backbone, own, empty, 2.5), eps, grid(3, 3.0))
    assert_close(x0, expected)
    assert torch.equal(cond.tokens[0], own.tokens[0])
    assert [cache.row(i).prompt for i in range(10)] == PROMPTS
    assert cache.lengths == [1 + len(p.split()) for p in PROMPTS]


def test_trap35_samples_do_not_depend_on_order_batch_or_shard(tmp_path: Path) -> None:
    a = contents(made(CFG, ToyFamily(), PROMPTS, tmp_path / "a"))
    other = replace(CFG, batch=3, shard=10)
    b = contents(made(other, ToyFamily(), PROMPTS[::-1], tmp_path / "b"))
    few = contents(made(CFG, ToyFamily(), PROMPTS[3:5], tmp_path / "c"))
    assert a.keys() == b.keys() and len(a) == 10
    for name, (x, tokens) in a.items():
        assert_close(b[name][0], x)
        assert torch.equal(b[name][1], tokens)
    for name, (x, _) in few.items():
        assert_close(a[name][0], x)


def test_equal_prompts_get_different_noise(tmp_path: Path) -> None:
    cache = made(CFG, ToyFamily(), PROMPTS, tmp_path)
    x0, _ = cache.take([0, 2])
    assert cache.ids[2] == f"{cache.ids[0]}-2"
    assert not torch.allclose(x0[0], x0[1])


def test_every_fact_is_in_the_key(tmp_path: Path) -> None:
    directories = {
        made(cfg, ToyFamily(seed), prompts, tmp_path, shown=shown).directory
        for cfg, seed, prompts in [
            (CFG, 0, PROMPTS),
            (CFG, 1, PROMPTS),
            (CFG, 0, PROMPTS[::-1]),
            (replace(CFG, seed=8), 0, PROMPTS),
            (replace(CFG, guidance=1.0), 0, PROMPTS),
            (replace(CFG, steps=4), 0, PROMPTS),
            (replace(CFG, width=32), 0, PROMPTS),
            (replace(CFG, picture_share=0.5), 0, PROMPTS),
        ]
    }
    assert len(directories) == 8
    for other in (
        made(CFG, ToyFamily(), PROMPTS, tmp_path, facts={"engine": "fused"}),
        made(replace(CFG, picture_share=0.5), ToyFamily(), PROMPTS, tmp_path,
                   shown=lambda p, s: (shown(p, s)[0], shown(p, s)[1] / 2)),
    ):  # fmt: skip
        assert other.directory not in directories
    same = made(replace(CFG, batch=1), ToyFamily(), PROMPTS, tmp_path)
    assert same.directory in directories


def test_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    whole = contents(made(CFG, ToyFamily(), PROMPTS, tmp_path / "whole"))

    def stop(what: str, done: int, total: int) -> None:
        assert (what, total) == ("teacher samples", 10)
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(CFG, ToyFamily(), PROMPTS, tmp_path / "parts", told=stop)
    family = ToyFamily()
    cache = made(CFG, family, PROMPTS, tmp_path / "parts")
    assert set(family.encoded) == {"", *PROMPTS[8:]}
    for name, (x, tokens) in contents(cache).items():
        assert torch.equal(whole[name][0], x) and torch.equal(whole[name][1], tokens)
    again = ToyFamily()
    made(CFG, again, PROMPTS, tmp_path / "parts")
    assert again.encoded == []


def test_every_batch_is_told(tmp_path: Path) -> None:
    """The last one of a shard when the shard is there."""
    heard: list[tuple[int, int]] = []

    def told(what: str, done: int, total: int) -> None:
        heard.append((done, len(list(tmp_path.glob("*/*.safetensors")))))

    made(replace(CFG, batch=2), ToyFamily(), PROMPTS, tmp_path, told=told)
    assert [done for done, _ in heard] == sorted({done for done, _ in heard})
    assert {(4, 1), (8, 2), (10, 3)} <= set(heard) and len(heard) > 3


@pytest.mark.fault(8)
def test_trap36_a_sample_that_is_not_finite_is_named(tmp_path: Path) -> None:
    family = ToyFamily()
    with torch.no_grad():
        family.backbone.get_parameter("leave.bias")[0] = float("nan")
    where = r"sample 0 \(prompt 'a red circle', seed 7\) is not finite"
    with pytest.raises(UserError, match=where):
        made(CFG, family, PROMPTS, tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_part_of_the_samples_reads_a_picture(tmp_path: Path) -> None:
    cfg = replace(CFG, picture_share=0.5)
    family = ToyFamily()
    cache = made(cfg, family, PROMPTS, tmp_path, shown=shown, facts={"world": "toy"})
    asked = rows_of(cfg, PROMPTS)
    rows = [cache.row(i) for i in range(10)]
    beside = [row.picture for row in rows]
    assert 0 < sum(beside) < 10
    assert beside == [row.picture for row in asked]
    _, cond = cache.take(range(10))
    changed = 0
    for row, wanted, tokens in zip(rows, asked, cond.tokens, strict=True):
        texts, image = [wanted.prompt], None
        if row.picture:
            texts, image = shown(texts, [seed_of(7, "picture", row.id)])
        assert row.id == wanted.id and [row.prompt] == texts
        changed += row.prompt != wanted.prompt
        assert torch.equal(tokens, family.encode_text(texts, image).tokens[0])
    assert changed > 0
    share = sum(r.picture for r in rows_of(cfg, [f"p{i}" for i in range(2000)])) / 2000
    assert share == pytest.approx(0.5, abs=0.05)
    with pytest.raises(ValueError, match="picture_share > 0 needs pictures"):
        made(cfg, family, PROMPTS, tmp_path)


def test_chunks_hold_one_bucket_each() -> None:
    assert list(chunks([64, 32, 64, 64, 32], 2)) == [[1, 4], [0, 2], [3]]


def test_config_errors() -> None:
    with pytest.raises(ValueError, match=r"shard must be >= 1, got 0"):
        replace(CFG, shard=0)
    with pytest.raises(ValueError, match=r"picture_share must lie in \[0, 1\], got 1\.5"):
        replace(CFG, picture_share=1.5)
    with pytest.raises(ValueError, match=r"guidance must be finite, got nan"):
        replace(CFG, guidance=float("nan"))
