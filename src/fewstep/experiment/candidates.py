"""What `fewstep eval` is asked to judge, from words on the command line to pictures.

MODEL[@STEPS[,w=W]] where MODEL is a diffusers directory, a hub id, "shapes", a run directory (its
exported model), or a folder of pictures that `fewstep sample` has made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fewstep.errors import UserError
from fewstep.evaluate.gallery import RECORD, draw_gallery, open_gallery
from fewstep.evaluate.generate import GenerationSpec, Progress, digest
from fewstep.evaluate.judge import Candidate, Drawn, check_prompts
from fewstep.evaluate.results import Role
from fewstep.experiment.config import Engine
from fewstep.experiment.models import load_family
from fewstep.experiment.varieties import fitted, parse_variety
from fewstep.families import adapters
from fewstep.families.adapters import Strength, recorded, written
from fewstep.families.zimage import ZImage
from fewstep.families.zimage_fused import product_dtype
from fewstep.flow.variety import FirstStepBy, Variety
from fewstep.runs import user_path

PACKAGED = "shapes"
ASKED = re.compile(
    r"(?P<model>.+?)(?:@(?P<steps>\d+)(?:,w=(?P<w>\d+(?:\.\d+)?))?(?:\+(?P<variety>.+))?)?"
)
FORM = "MODEL, MODEL@STEPS or MODEL@STEPS,w=W, with +VARIETY after the steps where one is wanted"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One model at one number of steps."""

    text: str
    """As it was typed."""
    source: str
    """A directory, a hub id or a folder of pictures."""
    name: str
    steps: int
    guidance: float = 1.0
    adapter: Path | None = None
    strength: Strength = 1.0
    variety: Variety | None = None
    role: Role = "other"
    is_pictures: bool = False

    @property
    def title(self) -> str:
        """What its row is called."""
        if self.is_pictures:
            return self.name
        steps = f", {self.steps} step{'s' * (self.steps != 1)}"
        adapter = f", strength {written(self.strength)}" if self.adapter else ""
        variety = f", {self.variety.title}" if self.variety else ""
        return f"{self.name}{steps}{self.guided}{adapter}{variety}"

    @property
    def guided(self) -> str:
        return f", w = {self.guidance:g}" if self.guidance != 1 else ""


def parse(text: str, steps: int, guidance: float) -> Asked:
    """What MODEL[@STEPS[,w=W][+VARIETY]] asks for; `steps` and `guidance` where it does not say."""
    found = ASKED.fullmatch(text)
    there = user_path(text).exists()  # a path may hold an @
    if not found or ("@" in Path(found["model"]).name and not user_path(found["model"]).exists()):
        raise UserError(f"a model reads {FORM}, got {text!r}")
    variety = None
    if there:
        source, n, w = text, steps, guidance
    else:
        source = found["model"]
        variety = parse_variety(found["variety"]) if found["variety"] else None
        n = int(found["steps"] or steps)
        w = float(found["w"]) if found["w"] else 1.0 if found["steps"] else guidance
    if n < 1:
        raise UserError(f"{text!r} asks for {n} steps; give at least 1")
    # "shapes" is the packaged model whatever lies here; "." has a name of its own
    path = None if source == PACKAGED else user_path(source)
    name = Path(os.path.abspath(path)).name if path else source
    if path and (path / RECORD).is_file():
        if source != text:
            raise UserError(f"{source} is a folder of pictures that are drawn already, but {text!r}"
                            " names steps; leave them out")  # fmt: skip
        return Asked(text=text, source=source, name=name, steps=n, guidance=w, is_pictures=True)
    if path and (path / "config.yaml").is_file():
        if not (path / "model").is_dir():
            raise UserError(f"the run {source} has no model yet: let `fewstep train` finish")
        source = str(path / "model")
    return Asked(text=text, source=source, name=name, steps=n, guidance=w, variety=variety)


def first_of(asked: Asked) -> Asked | None:
    """The model that makes the first step, where that is another; UserError for what is none."""
    if not isinstance(asked.variety, FirstStepBy):
        return None
    text, w = asked.variety.model, asked.variety.guidance
    other = parse(text, asked.steps, w)
    if other.is_pictures:
        raise UserError(f"first={text} names a folder of pictures; name a model")
    if (other.steps, other.guidance) != (asked.steps, w):
        raise UserError(f"first={text} names steps, but it makes one of {asked.title}; leave them "
                        "out")  # fmt: skip
    return other


def apart(models: Sequence[Asked]) -> list[Asked]:
    """The models, with those of one name called after their whole path: every run's model lies in
    a folder of the name model."""
    sources: dict[str, set[str]] = {}
    for model in models:
        sources.setdefault(model.name, set()).add(model.source)
    return [
        replace(model, name=model.source) if len(sources[model.name]) > 1 else model
        for model in models
    ]


@dataclass(frozen=True, kw_only=True)
class Means:
    """How pictures are made and where they are kept."""

    folder: Path
    device: torch.device
    dtype: str = "float32"
    engine: Engine = "plain"
    batch: int = 32
    height: int | None = None
    """In pixels; None is the size that the model was made for."""
    width: int | None = None


class Loader:
    """Families by source and adapter; the last one is kept, for its rows follow each other."""

    def __init__(self, means: Means) -> None:
        self.means = means
        self.held: tuple[tuple[str, Path | None], ZImage] | None = None

    def __call__(self, asked: Asked) -> ZImage:
        key = asked.source, asked.adapter
        if self.held is None or self.held[0] != key:
            self.held = None  # before the next is loaded, or two would need the memory
            engine = "plain" if asked.adapter else self.means.engine
            family = load_family(asked.source, self.means.device, self.means.dtype, engine)
            if asked.adapter is not None:
                adapters.attach(family, asked.adapter)
            self.held = key, family
        family = self.held[1]
        if asked.adapter is not None:
            adapters.scale(family, asked.strength)
        return family


def candidate(
    asked: Asked, prompts: tuple[str, ...], seeds: tuple[int, ...], load: Callable[[Asked], ZImage],
    means: Means,
) -> Candidate:  # fmt: skip
    """A row to be; nothing is loaded before its turn."""
    if asked.is_pictures:
        pictures = open_gallery(user_path(asked.source))
        check_prompts(asked.title, pictures, prompts)  # before anything is drawn
        found = Drawn(pictures=pictures)
        return Candidate(
            name=asked.title, role=asked.role, total=pictures.total, draw=lambda told: found
        )

    other = first_of(asked)  # before anything is drawn

    def draw(told: Progress) -> Drawn:
        family = load(asked)
        first = None if other is None else load(other)
        spec = spec_of(asked, family, first, prompts, seeds, means)
        facts = facts_of(asked, means)
        folder = means.folder / folder_name(asked, spec, facts)
        cost = draw_gallery(
            folder, family, spec, facts, batch_size=means.batch,
            first=None if first is None else first.backbone, progress=told,
        )  # fmt: skip
        return Drawn(pictures=open_gallery(folder), spec=spec, cost=cost)

    return Candidate(
        name=asked.title, role=asked.role, total=len(prompts) * len(seeds), draw=draw
    )  # fmt: skip


def spec_of(
    asked: Asked, family: ZImage, first: ZImage | None, prompts: tuple[str, ...],
    seeds: tuple[int, ...], means: Means,
) -> GenerationSpec:  # fmt: skip
    side = family.pipeline.vae.config.sample_size
    try:
        return GenerationSpec(
            model=asked.name, fingerprint=family.fingerprint(), prompts=prompts,
            seeds=seeds, sigmas=family.sigmas(asked.steps), sampler=family.sampler,
            guidance=asked.guidance, variety=fitted(asked.variety, family, first),
            height=side if means.height is None else means.height,
            width=side if means.width is None else means.width,
        )  # fmt: skip
    except ValueError as error:
        raise UserError(str(error)) from None


def facts_of(asked: Asked, means: Means) -> dict[str, Any]:
    """What decides pictures beside the spec."""
    found: dict[str, Any] = {"dtype": means.dtype, "engine": means.engine}
    if asked.adapter is not None:
        data = asked.adapter.read_bytes()
        found |= {"engine": "plain", "adapter": digest(data), "strength": recorded(asked.strength)}
    engines = {found["engine"]}
    if isinstance(asked.variety, FirstStepBy):  # whose model has no adapter
        found["first_engine"] = means.engine
        engines.add(means.engine)
    if engines != {"plain"} and product_dtype(means.device) == torch.float32:
        found["products"] = "float32"  # unsaid of bfloat16: pictures of before keep their names
    if engines != {"plain"} or means.dtype != "float32":
        found["batch"] = means.batch  # coarse products round by the batch's size
    return found


def folder_name(asked: Asked, spec: GenerationSpec, facts: Mapping[str, Any]) -> str:
    """Readable, and different for different pictures."""
    readable = re.sub(r"[^a-z0-9]+", "_", asked.title.lower()).strip("_")
    decided = repr(sorted(({**spec.to_json(), **facts, "model": ""}).items()))
    return f"{readable}-{digest(decided.encode())}"
