"""Latents of another scale than the model's are told by their statistics.

Every family scales its latents so that those of pictures have mean square 1 over all channels, as
the noise that they are mixed with. An autoencoder's scale that was left out, or a shift in other
units, shows in the mean square and the mean of a set, and in no single loss.

Measured: Shapes has 1.03 (root of the mean square), and between 1.16 and 1.28 for sets of nothing
but white, black or noise; its samples 1.04 to 1.09 from guidance 2 to 6 and from 20 steps to 2; an
autoencoder with random weights 0.14 to 0.20, and samples of a random transformer 1.25 to 1.3. An
autoencoder of scale 0.36, left out, gives 2.8.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fewstep.errors import UserError
from fewstep.shapes import Latent

LEAST, MOST = 0.05, 2.25
"""Of the root of the mean square."""
SHIFT = 0.75
"""Of the mean over all channels."""
ENOUGH = 64
"""Samples that are looked at."""


def check_scale(latents: Sequence[Latent], what: str) -> None:
    """UserError where these latents, each (c, h, w), cannot be the model's own; `what` names
    them."""
    values = torch.cat([x.float().flatten(1) for x in latents[:ENOUGH]], 1)
    if not values.isfinite().all():
        return  # which sample that is, is told when it comes (`data.finite`)
    size, mean = float(values.square().mean().sqrt()), float(values.mean())
    if LEAST <= size <= MOST and abs(mean) <= SHIFT:
        return
    means, stds = values.mean(1), values.std(1)
    raise UserError(
        f"{what} are of another scale than the model's: over all channels their root mean square "
        f"is {size:.3g} (about 1, at most {MOST:g} and at least {LEAST:g}) and their mean "
        f"{mean:.3g} (about 0, at most {SHIFT:g}); by channel the means are {means.min():.3g} to "
        f"{means.max():.3g} and the deviations {stds.min():.3g} to {stds.max():.3g}; see "
        "scaling_factor and shift_factor in vae/config.json of the model, and delete the cache"
    )
