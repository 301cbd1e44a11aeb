"""Scores of a picture beside its prompt by models of others: CLIP, preference, aesthetics.

clip        100 max(cos, 0) of picture and prompt: CLIPScore without its factor 2.5
            (Hessel et al. 2021, arXiv:2104.08718, section 3)
pickscore   exp(logit scale) cos by a CLIP that was trained on choices of people
            (Kirstain et al. 2023, arXiv:2305.01569, section 3)
aesthetic   LAION's aesthetic predictor V2, a head on CLIP ViT-L/14 features of length 1

Read at least two: preference rewards saturated colours and can rise while diversity collapses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from fewstep.errors import UserError
from fewstep.evaluate.hub import CLIP
from fewstep.evaluate.measures import Score
from fewstep.runs import user_path
from fewstep.shapes import Pixels

Array = NDArray[np.float64]

PICKSCORE = "yuvalkirstain/PickScore_v1"
CLIP_L = "openai/clip-vit-large-patch14"
"""What the aesthetic head was trained on."""
HEAD = (768, 1024, 128, 64, 16, 1)
"""Widths of the aesthetic head."""
HEAD_LAYERS = (0, 2, 4, 6, 7)
"""Their numbers in its file: dropout has the others."""


def cosines(clip: CLIP, images: Pixels, prompts: Sequence[str]) -> Array:
    texts = {text: i for i, text in enumerate(dict.fromkeys(prompts))}
    read = clip.text(list(texts))[[texts[prompt] for prompt in prompts]]
    return np.einsum("nd,nd->n", clip(images).astype(np.float64), read.astype(np.float64))


def clip_score(source: str | None, device: torch.device) -> Score:
    clip = CLIP(source, device)
    return lambda images, prompts: 100 * np.maximum(cosines(clip, images, prompts), 0)


def pickscore(source: str | None, device: torch.device) -> Score:
    clip = CLIP(source or PICKSCORE, device)
    factor = float(clip.loaded.model.logit_scale.exp())
    return lambda images, prompts: factor * cosines(clip, images, prompts)


def aesthetic(source: str | None, device: torch.device) -> Score:
    """`source` is FILE or FILE,CLIP: the head as safetensors, and the CLIP it stands on."""
    if source is None:
        raise UserError(
            "the score aesthetic needs the file of its head behind a colon, aesthetic:FILE or "
            "aesthetic:FILE,CLIP: LAION's sac+logos+ava1-l14-linearMSE, saved as safetensors"
        )
    file, _, own = source.partition(",")
    head = aesthetic_head(file)
    clip = CLIP(own or CLIP_L, device)
    if (width := clip.loaded.model.config.projection_dim) != HEAD[0]:
        raise UserError(
            f"the aesthetic head reads {HEAD[0]} features, the CLIP {own} gives {width}; name the "
            f"one that it was trained on, {CLIP_L}"
        )

    @torch.no_grad()
    def score(images: Pixels, prompts: Sequence[str]) -> Array:
        return head(torch.from_numpy(clip(images))).squeeze(1).double().numpy()

    return score


def aesthetic_head(file: str) -> nn.Sequential:
    """The head as it is in its file; UserError for another."""
    path = user_path(file)
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"the aesthetic head {path} cannot be read ({error})") from None
    shapes = {
        f"layers.{layer}.{kind}": shape
        for layer, (a, b) in zip(HEAD_LAYERS, pairwise(HEAD), strict=True)
        for kind, shape in (("weight", (b, a)), ("bias", (b,)))
    }
    if {key: tuple(value.shape) for key, value in state.items()} != shapes:
        raise UserError(
            f"{path} is not the aesthetic head: it must hold exactly {', '.join(shapes)}, from "
            f"{HEAD[0]} features to one number"
        )
    net = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(HEAD)))
    for layer, number in zip(net, HEAD_LAYERS, strict=True):
        layer.load_state_dict(
            {k: state[f"layers.{number}.{k}"].float() for k in ("weight", "bias")}
        )
    return net.eval().requires_grad_(False)


SCORES: dict[str, tuple[str, Callable[[str | None, torch.device], Score]]] = {
    "clip": ("clip_score", clip_score),
    "pickscore": ("preference", pickscore),
    "aesthetic": ("aesthetic", aesthetic),
}
"""By name on the command line: the metric, and what makes it."""


def make_scores(texts: Sequence[str], device: torch.device) -> dict[str, Score]:
    """Scores by metric; UserError for an unknown name or weights that are not there."""
    found: dict[str, Score] = {}
    for text in texts:
        name, _, source = text.partition(":")
        if name not in SCORES:
            raise UserError(f"there is no score {name!r}; there are {', '.join(SCORES)}")
        metric, make = SCORES[name]
        if metric in found:
            raise UserError(f"the score {name} is named twice; name it once")
        found[metric] = make(source or None, device)
    return found
