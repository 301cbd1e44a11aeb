"""What the doctor looks at: a model and what it draws; an experiment as `build` has made it.

The pictures that checks are held against come from the diffusers pipeline itself, which shares no
line with our samplers: what is wrong here cannot be wrong there in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from fewstep.data.batches import Batch
from fewstep.experiment.builder import Built
from fewstep.experiment.config import Experiment
from fewstep.experiment.prompts import preview_prompts
from fewstep.families.base import Cond
from fewstep.families.zimage import ZImage
from fewstep.flow import path
from fewstep.flow.sample import at
from fewstep.shapes import Latent, Pixels, Sigma
from fewstep.worlds.base import World

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""At which a model is asked what it makes of a noised picture."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What the pipeline draws of the patient's prompts."""

    eps: Latent
    x0: Latent
    sigmas: tuple[float, ...]
    """At which it has called the model."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One call of a model: what went in and what came out."""

    x: Latent
    sigma: Sigma
    v: Latent


class Model:
    """A model and prompts to ask it with.

    few       steps that it is to be sampled with once it is fast, or is sampled with now
    guidance  of its pictures, where it is no few-step model itself
    plain     run by the library's own code, where another engine would be compiled for every size
    """

    def __init__(
        self, family: ZImage, world: World | None, prompts: Sequence[str], size: tuple[int, int],
        *, few: int, guidance: float, plain: bool = False,
    ) -> None:  # fmt: skip
        self.family, self.world, self.prompts = family, world, list(prompts)
        self.backbone = family.backbone.plain() if plain else family.backbone
        self.size, self.few = size, few
        self.guidance = 1.0 if self.few_step else guidance
        self.device = next(family.backbone.parameters()).device
        self.drawn: dict[tuple[int, float], Drawn] = {}

    @property
    def few_step(self) -> bool:
        """Whether it was made for few steps, by what its scheduler says."""
        return self.family.sampler == "renoise"

    @cached_property
    def cond(self) -> Cond:
        return self.family.encode_text(list(self.prompts)).to(self.device)

    @cached_property
    def nothing(self) -> Cond:
        return self.family.encode_text([""] * len(self.prompts)).to(self.device)

    @cached_property
    def eps(self) -> Latent:
        shape = self.family.latent_shape(*self.size)
        draws = torch.Generator().manual_seed(0)
        return torch.randn(len(self.prompts), *shape, generator=draws).to(self.device)

    @property
    def steps(self) -> int:
        """Enough for pictures that the model knows."""
        return self.few if self.few_step else 8

    def by_pipeline(self, steps: int | None = None, w: float | None = None) -> Drawn:
        """Drawn by diffusers from `eps`; once for each number of steps and guidance."""
        steps, w = steps or self.steps, self.guidance if w is None else w
        if (steps, w) not in self.drawn:
            height, width = self.size
            pipeline: Any = self.family.pipeline  # whose annotations are narrower than its methods
            seen = list[float]()
            pipeline.set_progress_bar_config(disable=True)
            handle = pipeline.transformer.register_forward_pre_hook(
                lambda _module, inputs: seen.append(1 - float(inputs[1].flatten()[0]))
            )
            try:
                gpus = [self.device] if self.device.type == "cuda" else []
                with self.family.awake(), torch.random.fork_rng(devices=gpus):
                    torch.manual_seed(0)  # a stochastic scheduler draws from it
                    x0 = pipeline(
                        list(self.prompts), height=height, width=width, num_inference_steps=steps,
                        guidance_scale=w - 1, latents=self.eps.float().clone(),
                        output_type="latent",
                    ).images  # fmt: skip
            finally:
                handle.remove()
            self.drawn[steps, w] = Drawn(eps=self.eps, x0=x0.float(), sigmas=tuple(seen))
        return self.drawn[steps, w]

    @torch.no_grad()
    def pictures(self, x0: Latent) -> Pixels:
        """One by one, as little memory as it can be done in."""
        return torch.cat([self.family.decode(row[None]).float() for row in x0])

    @torch.no_grad()
    def one_step_error(self, x0: Latent, cond: Cond, sigma: float, seed: int = 1) -> Tensor:
        """(b,): mean square of x0_hat - x0 over that of x0, of pictures that are noised to sigma;
        the model that knows nothing and answers 0 has 1."""
        x, v, level = self.asked_at(x0, cond, sigma, seed)
        return relative(path.to_x0(x, v, level), x0)

    @torch.no_grad()
    def asked_at(
        self, x0: Latent, cond: Cond, sigma: float, seed: int = 1
    ) -> tuple[Latent, Latent, Sigma]:
        """(x, v, sigma): the model's answer about x0 noised to sigma."""
        draws = torch.Generator().manual_seed(seed)
        eps = torch.randn(x0.shape, generator=draws).to(x0.device)
        level = at(sigma, x0)
        x = path.interpolate(x0, eps, level)
        return x, self.backbone(x, level, cond), level


class Patient:
    """An experiment that was built.

    against  prompts that must not be trained on, beside those of its own evaluation
    prompts  so many are drawn
    """

    def __init__(
        self, experiment: Experiment, built: Built, *, against: Sequence[str] = (), prompts: int = 8
    ) -> None:
        self.experiment, self.built, self.against = experiment, built, tuple(against)
        self.device = built.device
        data = experiment.data
        asked = preview_prompts(experiment, built.world)[:prompts]
        # of other sources nothing is drawn with guidance, and a model of few steps has none
        guidance = data.samples.guidance if data.source == "samples" else 1.0

        def model_of(family: ZImage) -> Model:
            return Model(
                family, built.world, asked, data.size(), few=experiment.sampling.steps,
                guidance=guidance, plain=experiment.engine == "compiled",
            )  # fmt: skip

        self.model = model_of(built.teacher)
        """Whose pictures are learnt from: the teacher, or the model itself where there is none."""
        self.own = self.model if built.family is built.teacher else model_of(built.family)
        """What the student is made of."""

    @property
    def models(self) -> dict[str, Model]:
        """By what they are."""
        if self.own is self.model:
            return {"the model": self.model}
        return {"the teacher": self.model, "the model": self.own}

    @cached_property
    def batch(self) -> Batch:
        """The first micro-batch of training."""
        return self.built.batches(0)[0].to(self.device)


def relative(found: Tensor, wanted: Tensor) -> Tensor:
    """(b,): mean square of the difference over that of what was wanted."""
    return (found - wanted).flatten(1).square().mean(1) / wanted.flatten(1).square().mean(1)


@contextmanager
def overheard(model: nn.Module) -> Iterator[list[Asked]]:
    """The calls of a backbone within the block."""
    calls: list[Asked] = []

    def hook(_module: nn.Module, inputs: tuple[Latent, Sigma, Cond], out: Latent) -> None:
        x, sigma = inputs[:2]
        calls.append(Asked(x=x.detach(), sigma=sigma.detach(), v=out.detach()))

    handle = model.register_forward_hook(hook)
    try:
        yield calls
    finally:
        handle.remove()
