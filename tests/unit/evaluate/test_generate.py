"""An image is decided by (prompt, seed) and the spec; never by the batch or the order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.toy import ToyBackbone

from fewstep.evaluate.generate import (
    GenerationSpec,
    fingerprint,
    generate,
    names,
    picture_hash,
    stream,
)
from fewstep.evaluate.grids import Column, write_grid
from fewstep.families.base import Backbone, Cond
from fewstep.flow.sample import SamplerName
from fewstep.rng import Rng, seed_of
from fewstep.shapes import Latent, Pixels


class ToyFamily:
    """A family around the toy backbone: two latent channels, linear decoding, words as numbers."""

    sampler: SamplerName = "euler"

    def __init__(self) -> None:
        self.backbone: Backbone = ToyBackbone()

    def encode_text(self, prompts: Sequence[str], images: Pixels | None = None) -> Cond:
        rows = []
        for i, prompt in enumerate(prompts):
            words = [Rng(0, 0, "word", [w]).randn(6)[0] for w in f"<s> {prompt}".split()]
            shown = [] if images is None else [images[i].mean((1, 2)).repeat(2)]
            rows.append(torch.stack(words + shown))
        return Cond(tuple(rows))

    def encode_image(self, images: Pixels) -> Latent:
        return images[:, :2]

    def decode(self, x0: Latent) -> Pixels:
        return torch.cat([x0, x0.mean(1, keepdim=True)], 1) / 4 + 0.5

    unit = 8

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        return 2, height // 8, width // 8

    def sigmas(self, steps: int) -> tuple[float, ...]:
        return tuple(1 - i / steps for i in range(steps + 1))

    def pipeline_guidance(self, w: float) -> float:
        return w

    def fingerprint(self, backbone: Backbone | None = None) -> str:
        return fingerprint(backbone or self.backbone)

    def save(self, directory: Path, backbone: Backbone, sampler: SamplerName | None = None) -> None:
        raise NotImplementedError


FAMILY = ToyFamily()
PROMPTS = ("a red circle", "two blue squares on a white background", "a cross")
SPEC = GenerationSpec(
    model="toy",
    fingerprint=FAMILY.fingerprint(),
    prompts=PROMPTS,
    seeds=(0, 1, 5),
    sigmas=FAMILY.sigmas(4),
    guidance=2.0,
    height=32,
    width=48,
)


def test_images_do_not_depend_on_batch_size_or_on_the_company_they_are_in() -> None:
    whole = generate(FAMILY, FAMILY.backbone, SPEC, batch_size=9)
    assert whole.shape == (9, 3, 4, 6)
    for batch_size in (1, 2, 4):
        parts = generate(FAMILY, FAMILY.backbone, SPEC, batch_size=batch_size)
        torch.testing.assert_close(parts, whole, atol=1e-6, rtol=0)
    turned = replace(SPEC, prompts=PROMPTS[::-1], seeds=(5, 9))
    others = generate(FAMILY, FAMILY.backbone, turned, batch_size=4)
    torch.testing.assert_close(others[0], whole[8], atol=1e-6, rtol=0)
    assert (others[1] - others[0]).abs().max() > 1e-3


def test_noise_is_no_training_noise_and_differs_between_prompts_and_seeds() -> None:
    ids = names(["a", "a", "b"], [0, 1, 0])
    assert len(set(ids)) == 3
    assert torch.pdist(Rng(0, 0, "evaluate", ids).randn(2, 8, 8).flatten(1)).min() > 5
    streams = {seed_of(0, 0, phase, ids[0]) for phase in ("evaluate", "renoise", "student")}
    assert len(streams) == 3


def test_global_generator_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    generate(FAMILY, FAMILY.backbone, SPEC)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(("guidance", "calls"), [(1.0, 4), (2.0, 8)])
def test_model_calls_are_those_the_spec_states(guidance: float, calls: int) -> None:
    backbone = ToyBackbone()
    spec = replace(SPEC, guidance=guidance)
    generate(FAMILY, backbone, spec, batch_size=9)
    assert backbone.forwards == spec.calls == calls


def test_the_backbone_given_is_the_one_that_draws() -> None:
    student = ToyBackbone(seed=1)
    assert fingerprint(student) != SPEC.fingerprint
    ours, theirs = (generate(FAMILY, b, SPEC) for b in (student, FAMILY.backbone))
    assert (ours - theirs).abs().max() > 0.05


def test_context_pictures_are_read_each_beside_its_own_prompt() -> None:
    pictures = torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    pictures[1] *= 0.2
    spec = replace(SPEC, context=picture_hash(pictures), guidance=1.0)
    shown = generate(FAMILY, FAMILY.backbone, spec, context=pictures, batch_size=4)
    plain = generate(FAMILY, FAMILY.backbone, replace(spec, context=None))
    assert (shown - plain).abs().amax((1, 2, 3)).min() > 1e-4
    alone = replace(spec, prompts=PROMPTS[1:2], context=picture_hash(pictures[1:2]))
    again = generate(FAMILY, FAMILY.backbone, alone, context=pictures[1:2])
    torch.testing.assert_close(again, shown[3:6], atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="context pictures have hash"):
        stream(FAMILY, FAMILY.backbone, spec, context=pictures.flip(0))


def test_progress_counts_images() -> None:
    seen: list[tuple[int, int]] = []
    generate(FAMILY, FAMILY.backbone, SPEC, batch_size=4, progress=lambda *done: seen.append(done))
    assert seen == [(4, 9), (8, 9), (9, 9)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": ("a", "a")}, "prompts must be distinct"),
        ({"seeds": ()}, "seeds must not be empty"),
        ({"sigmas": (1.0, 0.5)}, "sigmas must end in 0"),
    ],
)
def test_a_spec_that_cannot_be_is_refused(change: dict[str, tuple], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SPEC, **change)


def test_fingerprint_sees_every_weight() -> None:
    backbone = ToyBackbone()
    before = fingerprint(backbone)
    assert before == fingerprint(ToyBackbone())
    with torch.no_grad():
        backbone.leave.bias[-1] += 1e-6
    assert fingerprint(backbone) != before
    assert fingerprint(ToyBackbone().bfloat16()) != before


def test_grid_puts_each_image_where_its_labels_say(tmp_path: Path) -> None:
    levels = torch.arange(1, 9).float().div(10).view(2, 4, 1, 1, 1).expand(2, 4, 3, 16, 16)
    columns = [Column("first", levels[0]), Column("second", levels[1])]
    path = write_grid(tmp_path / "grids" / "a.png", columns, ["top", "bottom"], seeds=2, tile=32)
    pixels = np.asarray(Image.open(path))
    found = {}
    for level in range(1, 9):
        rows, left = np.nonzero((pixels == round(255 * level / 10)).all(-1))
        inside = len(rows) >= 32 * 32
        assert inside, level
        found[level] = (np.median(left), np.median(rows))
    x, y = (np.array([found[level][axis] for level in range(1, 9)]) for axis in (0, 1))
    assert x[0] < x[1] < x[4] < x[5] and (x[:2] == x[2:4]).all()  # seeds, then models
    assert (y[[0, 1, 4, 5]] == y[0]).all() and (y[[2, 3, 6, 7]] == y[2]).all() and y[0] < y[2]
    with pytest.raises(ValueError, match="'first' needs 3 rows x 2 seeds"):
        write_grid(path, columns, ["a", "b", "c"], seeds=2)
