"""Ways to more variety, from words on the command line to what fits the loaded models.

first=MODEL[,w=W]    prompt-noise=X[,share=X][,above=X]    damp=X[,block=N][,above=X]    noise=X
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from fewstep.errors import UserError
from fewstep.experiment.codec import suggestion
from fewstep.families.zimage import ZImage
from fewstep.flow.variety import ConditionNoise, Damped, FirstStepBy, ScaledNoise, Variety

Field = tuple[str, type[str] | type[int] | type[float]]
KINDS: Mapping[str, tuple[Callable[..., Variety], Mapping[str, Field]]] = {
    "first": (FirstStepBy, {"first": ("model", str), "w": ("guidance", float)}),
    "prompt-noise": (
        ConditionNoise,
        {"prompt-noise": ("strength", float), "share": ("share", float), "above": ("above", float)},
    ),
    "damp": (
        Damped, {"damp": ("factor", float), "block": ("block", int), "above": ("above", float)},
    ),
    "noise": (ScaledNoise, {"noise": ("scale", float)}),
}  # fmt: skip
"""By their first word: the dataclass, and for each word its field and how a value is read."""
NUMBERS: Mapping[type, str] = {int: "a whole number", float: "a number"}


def parse_variety(text: str) -> Variety:
    """What a text like "first=shapes,w=2" or "prompt-noise=0.3" asks for; UserError for any other.

    The name of a model holds no comma.
    """
    words = [part.partition("=") for part in text.split(",")]
    kind = words[0][0]
    if kind not in KINDS:
        raise UserError(f"{text!r} is no way to more variety; {suggestion(kind, KINDS)}")
    make, fields = KINDS[kind]
    values: dict[str, object] = {}
    for word, _, value in words:
        if word not in fields:
            raise UserError(f"{text!r}: {kind} has no {word!r}; {suggestion(word, fields)}")
        field, read = fields[word]
        if field in values:
            raise UserError(f"{text!r} says {word} twice; say it once")
        try:
            values[field] = read(value)
        except ValueError:
            raise UserError(f"{text!r}: {word} must be {NUMBERS[read]}, got {value!r}") from None
    try:
        return make(**values)
    except ValueError as error:
        raise UserError(f"{text!r}: {error}") from None


def fitted(variety: Variety | None, family: ZImage, first: ZImage | None) -> Variety | None:
    """The variety with the fingerprint of the model of the first step; ValueError where it does not
    fit the model."""
    if isinstance(variety, FirstStepBy):
        assert first is not None
        # it reads the conditions and continues the latents of the model
        shapes = [(f.backbone.cond_width, f.latent_shape(64, 64)) for f in (family, first)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{variety.model} cannot make the first step: widths of conditions and shapes of "
                f"latents are {shapes[1]}, those of the model {shapes[0]}"
            )
        return replace(variety, fingerprint=first.fingerprint())
    if isinstance(variety, Damped) and not variety.block < family.backbone.depth:
        raise ValueError(
            f"damping names block {variety.block}, but the model has blocks 0 to "
            f"{family.backbone.depth - 1}"
        )
    return variety
