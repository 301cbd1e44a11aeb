"""DreamBooth: flow matching on the pictures and, weighed, on samples of other prompts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.toy import ToyBackbone, toy_batch
from torch import Tensor
from torch.testing import assert_close

from fewstep.flow.sigmas import choice
from fewstep.methods.dreambooth import DreamBooth, DreamBoothConfig
from fewstep.methods.sft import SFT, SFTConfig
from fewstep.rng import Rng
from fewstep.train.optim import Optim, OptimConfig
from fewstep.train.rows import Means
from fewstep.train.step import run_step

PROBS = (0.1, 0.1, 0.1, 0.7)
CFG = DreamBoothConfig(student_probs=PROBS, prior_weight=0.5)
BATCH = replace(toy_batch(), prior=toy_batch(3, seed=5))


def rng() -> Rng:
    return Rng(0, 0, "student", BATCH.ids)


def test_loss_by_hand() -> None:
    method = DreamBooth(CFG, student=ToyBackbone())
    parts = list(method.parts(BATCH, rng()))
    right: list[Tensor] = []
    prior = BATCH.prior
    assert prior is not None
    for batch, draws in ((BATCH, rng()), (prior, Rng(0, 0, "student prior", prior.ids))):
        sigma = choice(draws, CFG.student_sigmas, PROBS)
        eps, s = draws.randn_like(batch.x0), sigma[:, None, None, None]
        v = method.student((1 - s) * batch.x0 + s * eps, sigma, batch.cond)
        right.append((v - (eps - batch.x0)).square().mean())
    assert_close(parts[0][0], right[0])
    assert_close(parts[1][0], 0.5 * right[1])
    assert_close(parts[1][1]["prior"], right[1].detach())


def test_without_a_prior_it_is_sft_bit_for_bit() -> None:
    alone = DreamBooth(replace(CFG, prior_weight=0.0), student=ToyBackbone())
    sft = SFT(SFTConfig(student_probs=PROBS), student=ToyBackbone())
    for step in range(3):
        for method in (alone, sft):
            optim = Optim(OptimConfig(), method.student, total=3)
            batch = replace(BATCH, prior=None)
            assert run_step(method, [batch], {"student": optim}, {}, seed=0, step=step) is None
    for a, b in zip(alone.modules.values(), sft.modules.values(), strict=True):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            assert torch.equal(p, q)


def test_the_loss_of_a_step_is_the_sum_of_its_parts() -> None:
    method, means = DreamBooth(CFG, student=ToyBackbone()), dict[str, Means]()
    optim = Optim(OptimConfig(), method.student, total=1)
    run_step(method, [BATCH], {"student": optim}, means, seed=0, step=0)
    logs = {name: float(str(value)) for name, value in means["student"].values().items()}
    assert logs["loss"] == pytest.approx(logs["concept"] + 0.5 * logs["prior"], rel=1e-6)


def test_what_is_exported_is_the_average_with_its_warm_up() -> None:
    """d = (1 + t) / (10 + t): 0.1 of the start is left after the first step."""
    method = DreamBooth(CFG, student=ToyBackbone())
    start = method.student.get_parameter("leave.bias").detach().clone()
    optim = Optim(OptimConfig(lr=0.1), method.student, total=1)
    run_step(method, [BATCH], {"student": optim}, {}, seed=0, step=0)
    after = method.student.get_parameter("leave.bias").detach()
    assert not torch.allclose(after, start)
    assert_close(method.exported().get_parameter("leave.bias"), 0.1 * start + 0.9 * after)


def test_errors() -> None:
    with pytest.raises(ValueError, match="prior_weight must be >= 0, got -1"):
        replace(CFG, prior_weight=-1.0)
    with pytest.raises(ValueError, match="student_probs must be >= 0 and sum to 1"):
        replace(CFG, student_probs=(0.5, 0.1, 0.1, 0.1))
    method = DreamBooth(CFG, student=ToyBackbone())
    with pytest.raises(ValueError, match=r"method.prior_weight = 0.5 needs samples of other"):
        list(method.parts(replace(BATCH, prior=None), rng()))
