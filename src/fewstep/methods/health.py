"""Health of an adversarial game, as numbers that stay right under any averaging of logs."""

from __future__ import annotations

import torch.nn.functional as F

from fewstep.methods.base import Logs
from fewstep.nets.heads import Heads
from fewstep.shapes import Latent, Logits, Sigma

SIGMA_BINS = 4
"""Health is logged for re-noise levels in [0, 1/4), [1/4, 1/2), [1/2, 3/4), [3/4, 1]."""


def spread(x0_hat: Latent, x0: Latent) -> Logs:
    """Standard deviation within a sample, of estimates and of teacher samples: a collapse shows."""
    return {"x0_hat_std": x0_hat.flatten(1).std(1).mean(), "x0_std": x0.flatten(1).std(1).mean()}


def health(heads: Heads, real: Logits, real_sigma: Sigma, fake: Logits, fake_sigma: Sigma) -> Logs:
    """How well the heads tell real from fake: in all, by head, and by re-noise level.

    Accuracy is the share of patches on the right side of 0. Values by level are sums over the
    samples of a bin divided by the size of the whole batch, beside the bin's `share` of samples:
    average both over any number of batches, then divide, and an empty bin does no harm:
    accuracy = correct_by_sigma / share_by_sigma, mean logit = logit_by_sigma / share_by_sigma.
    """
    logs: Logs = {}
    for name, sign, logits, sigma in (
        ("real", 1, real.detach(), real_sigma),
        ("fake", -1, fake.detach(), fake_sigma),
    ):
        correct = (sign * logits > 0).float()
        in_bin = F.one_hot((sigma * SIGMA_BINS).long().clamp(max=SIGMA_BINS - 1), SIGMA_BINS)
        logs |= {
            f"{name}_logit": logits.mean(),
            f"{name}_accuracy": correct.mean(),
            f"{name}_logit_by_head": heads.by_head(logits).mean((0, 2)),
            f"{name}_accuracy_by_head": heads.by_head(correct).mean((0, 2)),
            f"{name}_share_by_sigma": in_bin.float().mean(0),
            f"{name}_correct_by_sigma": (in_bin * correct.mean(1, keepdim=True)).mean(0),
            f"{name}_logit_by_sigma": (in_bin * logits.mean(1, keepdim=True)).mean(0),
        }
    logs["gap"] = logs["real_logit"] - logs["fake_logit"]
    logs["gap_by_head"] = logs["real_logit_by_head"] - logs["fake_logit_by_head"]
    return logs
