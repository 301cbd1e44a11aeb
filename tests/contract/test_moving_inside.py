"""Weights of a real Z-Image that move inside LADD's backward pass, with blocks computed again."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.contract.test_recompute import experiment
from tests.tiny import tiny_zimage
from torch import Tensor

from fewstep.data.batches import Batch
from fewstep.experiment.builder import prepare
from fewstep.experiment.models import make_world
from fewstep.families.recompute import recompute
from fewstep.rng import Rng
from fewstep.train.step import run_step


def trained(
    *, inside: bool, again: bool, steps: int = 3, offload: bool = False
) -> dict[str, Tensor]:
    """Weights and moments after some steps of both phases."""
    family = tiny_zimage()
    if again:
        recompute(family, share=0.5)
    cfg = experiment("ladd_shapes", None)
    student = replace(
        cfg.optim.student, clip=None, betas=(0.9, 0.99), in_backward=inside, lr=1e-3,
        offload=offload,
    )  # fmt: skip
    data = replace(cfg.data, alike=True)
    cfg = replace(cfg, data=data, optim=replace(cfg.optim, student=student))
    method, optims = prepare(cfg, family, family, make_world(cfg), torch.device("cpu"))
    for step in range(steps):
        ids = (f"a{step}", f"b{step}")
        batch = Batch(
            ids=ids, x0=Rng(0, step, "data", ids).randn(8, 16, 16),
            cond=family.encode_text(["a red circle", "two blue squares"]),
        )  # fmt: skip
        assert run_step(method, [batch], optims, {}, seed=0, step=step) is None
    assert optims["student"].updates == steps
    tensors, _ = optims["student"].state()
    return {**method.modules["student"].state_dict(), **tensors}


@pytest.mark.parametrize("again", (False, True))
def test_the_same_weights_as_after_the_pass(*, again: bool) -> None:
    """No block is computed again with weights that have moved already."""
    inside = trained(inside=True, again=again, offload=again)
    after = trained(inside=False, again=again)
    assert inside.keys() == after.keys()
    assert [name for name in after if not torch.equal(inside[name], after[name])] == []
