"""The optimizer of a phase: what it clips, and which weights and values it refuses."""

from __future__ import annotations

import pytest
import torch
from tests.unit.test_loop import SGD_LIKE, Point, Pull
from torch.testing import assert_close

from fewstep.train.optim import Optim, OptimConfig


def test_trap33_clip_scales_the_whole_gradient_and_logs_its_norm() -> None:
    method = Pull()
    optim = Optim(OptimConfig(clip=0.5), method.a, total=1)
    method.a.w.grad = torch.tensor([3.0, 4.0])
    norm = optim.norm()
    assert norm.item() == 5
    optim.step(norm)
    assert_close(method.a.w.grad, torch.tensor([0.3, 0.4]), rtol=1e-4, atol=1e-6)


@pytest.mark.fault(10)
def test_trap22_weights_that_would_round_away_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'w' is bfloat16, .* up to 0\.78% of a weight apart"):
        Optim(SGD_LIKE, Point().to(torch.bfloat16), total=1)
    with pytest.raises(ValueError, match="needs a trainable parameter"):
        Optim(SGD_LIKE, Point().requires_grad_(False), total=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.0}, "lr must be a finite number > 0, got 0.0"),
        ({"betas": (0.9, 1.0)}, r"betas must lie in \[0, 1\)"),
        ({"clip": 0.0}, "clip must be > 0, or none"),
        ({"warmup": -1}, "warmup must be >= 0, got -1"),
    ],
)
def test_optim_config_errors(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimConfig(**change)  # type: ignore[arg-type]
