"""Samples of a prior: what a step draws, and that it is the same however they are shared out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.games import Drawn
from tests.toy import ToyBackbone, toy_batch
from tests.unit.test_picture_batches import SQUARE, WIDE, pictures, samples_in
from torch import Tensor
from torch.testing import assert_close

from fewstep.data.batches import Batch, Batches
from fewstep.data.finite import Finite
from fewstep.data.picture_samples import PictureBatches
from fewstep.data.prior import PicturePrior, SamplePrior, WithPrior, shared_out
from fewstep.errors import UserError
from fewstep.methods.base import Logs
from fewstep.methods.dopsd import DOPSD, DOPSDConfig
from fewstep.methods.dreambooth import DreamBooth, DreamBoothConfig
from fewstep.train.optim import Optim, OptimConfig
from fewstep.train.step import accumulate

ROWS = [(SQUARE, [3, 3], 1)] * 3 + [(WIDE, [3], 1)]


def test_a_prior_of_samples_is_a_function_of_seed_and_step() -> None:
    data = Drawn()  # 20 of them
    prior = SamplePrior(samples=data, size=6, seed=0)
    found = prior(3)
    assert len(set(found.ids)) == 6 and {name[-2:] for name in found.ids} == {"@0"}
    assert prior(3).ids == found.ids != prior(4).ids
    assert SamplePrior(samples=data, size=6, seed=1)(3).ids != found.ids
    rows = [data.ids.index(name.split("@")[0]) for name in found.ids]
    assert torch.equal(found.x0, data.x0[rows])
    assert all(torch.equal(t, data.tokens[i]) for t, i in zip(found.cond.tokens, rows, strict=True))
    many = SamplePrior(samples=data, size=45, seed=0)(0)
    assert len(set(many.ids)) == 45


def test_a_prior_of_pictures_has_one_size_and_draws_all_equally(tmp_path: Path) -> None:
    prior = PicturePrior(samples=samples_in(tmp_path, ROWS), size=4, seed=0)
    seen: Counter[int] = Counter()
    for step in range(400):
        batch = prior(step)
        assert len(set(batch.ids)) == len(batch) == 4
        seen.update(pictures([batch]))
    # a quarter of the steps begin with the wide picture and hold nothing else
    assert all(abs(n - 400) < 100 for n in seen.values()) and len(seen) == 4
    assert prior(5).ids == prior(5).ids


def test_what_a_step_draws_is_what_runs_of_before_have_drawn(tmp_path: Path) -> None:
    """Recorded when each micro-batch drew its own, for the first of them."""
    assert SamplePrior(samples=Drawn(5), size=7, seed=0)(3).ids == (
        "s1@0", "s0@0", "s4@0", "s3@0", "s2@0", "s1@1", "s0@1",
    )  # fmt: skip
    prior = PicturePrior(samples=samples_in(tmp_path, ROWS), size=4, seed=0)
    assert prior(0).ids == ("2@0.0", "1@0.0", "0@0.0", "2@0.1")
    assert [t[0, 0] for t in prior(0).cond.tokens] == [0, 1, 0, 0]  # the caption of each
    assert prior(1).ids == ("3@0.0", "3@0.1", "3@0.2", "3@0.3")


@pytest.mark.parametrize("samples", [1, 2, 4, 7])
@pytest.mark.parametrize("sizes", [(6,), (3, 3), (2, 1, 1, 2), (1, 5, 1)])
def test_each_sample_is_beside_one_micro_batch(samples: int, sizes: Sequence[int]) -> None:
    prior, bare = toy_batch(samples, seed=5), [toy_batch(n, seed=n) for n in sizes]
    found = shared_out(prior, bare)
    parts = [batch.prior for batch in found]
    ids = [name for part in parts if part is not None for name in part.ids]
    assert len(ids) == samples and set(ids) == set(prior.ids)
    counts = [len(part) for part in parts if part is not None]
    assert len(counts) == len(sizes) and counts == sorted(counts, reverse=True)
    assert max(counts) - min(counts) <= 1 and counts[0] > 0
    for batch, before, part, count in zip(found, bare, parts, counts, strict=True):
        assert replace(batch, prior=None, prior_scale=1.0) == before
        assert part is not None
        for name, x0, tokens in zip(part.ids, part.x0, part.cond.tokens, strict=True):
            row = prior.ids.index(name)
            assert torch.equal(x0, prior.x0[row]) and tokens is prior.cond.tokens[row]
        # what the loop multiplies it by is its share of the prior; these add up to one
        share = len(batch) / sum(sizes) * batch.prior_scale
        assert share == pytest.approx(count / samples)
        assert batch.to("cpu").prior_scale == batch.prior_scale
    if len(sizes) == 1:
        assert found[0].prior_scale == 1.0 and ids == list(prior.ids)


def test_a_folder_of_two_sizes(tmp_path: Path) -> None:
    """Micro-batches of either size have samples of one size beside them, which may be the other."""
    samples = samples_in(tmp_path, ROWS)
    prior = PicturePrior(samples=samples, size=3, seed=0)
    pairs: set[tuple[torch.Size, torch.Size]] = set()
    for micro_batch in (6, 2, 1):
        batches = PictureBatches(samples, batch_size=6, seed=0, micro_batch=micro_batch)
        for step in range(20):
            found = WithPrior(batches, prior)(step)
            parts = [batch.prior for batch in found if batch.prior]  # those that have some
            ids = [name for part in parts for name in part.ids]
            assert Counter(ids) == Counter(prior(step).ids) and len(set(ids)) == 3
            assert [b.ids for b in found] == [b.ids for b in batches(step)]
            pairs |= {(b.x0.shape[1:], b.prior.x0.shape[1:]) for b in found if b.prior}
    shapes = {torch.Size([1, 4, 4]), torch.Size([1, 2, 8])}
    assert pairs == {(a, b) for a in shapes for b in shapes}


def test_how_a_step_is_split_changes_none_of_its_samples() -> None:
    prior = SamplePrior(samples=Drawn(5), size=4, seed=0)
    for step in range(3):
        for micro_batch in (6, 3, 2, 1):
            found = WithPrior(
                Batches(Drawn(), batch_size=6, seed=0, micro_batch=micro_batch), prior
            )
            ids = {name for batch in found(step) if batch.prior for name in batch.prior.ids}
            assert ids == set(prior(step).ids)


BATCH = replace(toy_batch(6), context=toy_batch(6, seed=3).cond)


def tied(cfg: DOPSDConfig) -> DOPSD:
    base = ToyBackbone(seed=1).requires_grad_(False)  # the student has left it: the tether pulls
    return DOPSD(cfg, student=ToyBackbone(seed=2), base=base, sampler="renoise")


METHODS = {
    "dopsd": lambda: tied(DOPSDConfig(tether_weight=2.0, visits=2)),
    "mse": lambda: tied(DOPSDConfig(tether_weight=2.0, tether="mse", form="x0")),
    "dreambooth": lambda: DreamBooth(DreamBoothConfig(prior_weight=0.5), student=ToyBackbone()),
}


def summed(name: str, batches: Sequence[Batch]) -> tuple[dict[str, Tensor], Logs]:
    """Gradients and logs of a step as the loop makes them."""
    method = METHODS[name]()
    optim = Optim(OptimConfig(), method.student, total=1)
    [phase] = method.phases(0)
    total = sum(map(len, batches))
    parts = [(batch, len(batch) / total) for batch in batches]
    inputs = list(optim.parameters.values())
    loss, logs = accumulate(phase, parts, inputs, scale=1.0, seed=0, step=0, device="cpu")
    grads = {n: p.grad for n, p in method.student.named_parameters() if p.grad is not None}
    return grads, logs | {"loss": loss}


@pytest.mark.parametrize("samples", [1, 2, 4])
@pytest.mark.parametrize("name", METHODS)
def test_a_step_is_that_of_one_micro_batch_with_all_of_them(name: str, samples: int) -> None:
    prior = toy_batch(samples, seed=5)
    whole, told = summed(name, [replace(BATCH, prior=prior)])
    for sizes in ((6,), (3, 3), (3, 1, 2), (1,) * 6):
        rows = torch.arange(6).split(list(sizes))
        parts = [some(own.tolist()) for own in rows]
        found, logs = summed(name, shared_out(prior, parts))
        assert logs.keys() == told.keys() and found.keys() == whole.keys()
        for key, value in told.items():
            assert_close(logs[key], value, rtol=1e-5, atol=1e-6)
        for key, g in whole.items():
            assert (found[key] - g).norm() <= 2e-5 * g.norm(), (sizes, key)


def some(rows: list[int]) -> Batch:
    """These rows of the batch."""
    assert BATCH.context is not None
    ids = tuple(BATCH.ids[i] for i in rows)
    return Batch(ids=ids, x0=BATCH.x0[rows], cond=BATCH.cond[rows], context=BATCH.context[rows])


def test_a_sample_of_the_prior_that_is_not_finite_is_named() -> None:
    data = Drawn()
    data.x0[7, 0, 0, 0] = torch.inf
    batches = WithPrior(
        Batches(Drawn(), batch_size=4, seed=0), SamplePrior(samples=data, size=20, seed=0)
    )
    with pytest.raises(UserError, match="the latent of sample s7 is not finite"):
        Finite(batches)(0)
