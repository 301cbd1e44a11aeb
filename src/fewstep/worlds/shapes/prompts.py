"""The prompt grammar: what can be asked, how it is said, and how a saying is understood.

A `Spec` is what a prompt asks. `say` phrases it in one of several ways, `understand` reads any
phrasing back, and the two are inverse up to phrasing. Prompts belong to a split by a hash of their
meaning, so no phrasing of a test prompt can be in training. Some pairs of colour and shape are
never in training, validation or test: they make the split "heldout".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fewstep.rng import seed_of
from fewstep.worlds.shapes.scene import (
    BACKGROUNDS,
    HUES,
    OUTLINES,
    Concept,
    Look,
    Scene,
    Style,
    Wanted,
    WorldConfig,
    draw_scene,
)

CONCEPT = "[V]"
"""The noun for a thing that has no word and is shown in a picture."""

NUMBERS = {1: "a", 2: "two", 3: "three"}
RELATIONS = ("left of", "right of", "above", "below")
SIZES = ("small", "large")
HELD_OUT = (("red", "star"), ("green", "cross"), ("blue", "triangle"))
SPLITS = ("train", "val", "test", "heldout")


@dataclass(frozen=True)
class Role:
    """A kind of object that is asked for, `count` times; a concept has no colour of its own."""

    shape: str
    colour: str | None = None
    count: int = 1
    size: str | None = None


@dataclass(frozen=True)
class Spec:
    roles: tuple[Role, ...]
    background: str | None = None
    relation: str | None = None
    """How the first role stands to the second."""


WORDS = tuple(
    sorted(
        {*HUES, *OUTLINES, *(f"{s}s" for s in OUTLINES if s != "cross"), "crosses"}
        | {*BACKGROUNDS, *SIZES}
        | {CONCEPT, f"{CONCEPT}s"}
        | {*NUMBERS.values(), *" ".join(RELATIONS).split(), "and", "on", "with", "of", ","}
        | {"background", "picture"}
    )
)
"""The whole vocabulary of the world."""


JOINING = {"a", "and", "on", "with", "of", "picture", ","}
"""What else may stand in a prompt beside objects, their relation and the background."""


def noun(role: Role) -> str:
    plural = role.shape + ("es" if role.shape == "cross" else "s")
    words = [NUMBERS[role.count], role.size, role.colour, role.shape if role.count == 1 else plural]
    return " ".join(w for w in words if w)


def pick(options: Sequence[str], rng: np.random.Generator) -> str:
    """One of them. The same draw as `rng.choice`, which takes eight times as long."""
    return options[int(rng.integers(len(options)))]


def say(spec: Spec, rng: np.random.Generator) -> str:
    """One of the phrasings of a spec."""
    if spec.relation is not None:
        objects = f"{noun(spec.roles[0])} {spec.relation} {noun(spec.roles[1])}"
    else:
        order = rng.permutation(len(spec.roles))
        parts = [noun(spec.roles[i]) for i in order]
        objects = " and ".join([" , ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    if spec.background is None:
        return pick((objects, f"a picture of {objects}"), rng)
    ways = (
        f"{objects} on a {spec.background} background",
        f"{objects} , {spec.background} background",
        f"a {spec.background} background with {objects}",
    )
    return pick(ways, rng)


ROLE = re.compile(
    rf"(?P<count>{'|'.join(NUMBERS.values())}) (?:(?P<size>{'|'.join(SIZES)}) )?"
    rf"(?:(?P<colour>{'|'.join(HUES)}) )?(?P<shape>{'|'.join(OUTLINES)}|\[V\])(?:es|s)?\b"
    .replace(r"\])(?:es|s)?\b", r"\])(?:es|s)?(?!\w)")
)  # fmt: skip


BACKGROUND = re.compile(rf"\b({'|'.join(BACKGROUNDS)}) background\b")
RELATION = re.compile(rf"\b({'|'.join(RELATIONS)})\b")


def understand(prompt: str) -> Spec:
    """The spec that a prompt of this grammar asks for; ValueError names what is not understood."""
    counts = {word: n for n, word in NUMBERS.items()}
    background, relation = BACKGROUND.search(prompt), RELATION.search(prompt)
    roles = tuple(
        Role(m["shape"], m["colour"], counts[m["count"]], m["size"]) for m in ROLE.finditer(prompt)
    )
    if not roles:
        raise ValueError(f"the Shapes world finds no object in the prompt {prompt!r}")
    rest = ROLE.sub(" ", RELATION.sub(" ", BACKGROUND.sub(" ", prompt, count=1), count=1))
    if strange := [word for word in rest.replace(",", " , ").split() if word not in JOINING]:
        words = ", ".join(map(repr, strange))
        raise ValueError(f"the Shapes world does not know what {words} means in {prompt!r}")
    return Spec(
        roles, background[1] if background else None, relation[1] if relation else None
    )  # fmt: skip


MIRRORED = {"right of": "left of", "below": "above"}


def meaning(spec: Spec) -> str:
    """A canonical text: equal for every phrasing and order of the same request, and for a relation
    said from its other end."""
    if spec.relation is None:
        ordered = tuple(sorted(spec.roles, key=noun))
    elif spec.relation in MIRRORED:
        ordered = spec.roles[::-1]
    else:
        ordered = spec.roles
    relation = spec.relation and MIRRORED.get(spec.relation, spec.relation)
    return " | ".join([*map(noun, ordered), spec.background or "-", relation or "-"])


def held_out(spec: Spec) -> bool:
    return any((r.colour, r.shape) in HELD_OUT for r in spec.roles)


def split_of(spec: Spec) -> str:
    """One meaning in sixteen is for validation, one for test."""
    if held_out(spec):
        return "heldout"
    return {0: "test", 1: "val"}.get(seed_of("split", meaning(spec)) % 16, "train")


CATEGORIES = ("single_object", "two_objects", "counting", "colour_binding", "relation")
"""After GenEval (Ghosh et al. 2023, arXiv:2310.11513)."""


def category(spec: Spec) -> str:
    """The hardest thing that a spec asks: where one thing stands to another, which colour belongs
    to which shape (things that differ in both), how many, two things, or one."""
    if spec.relation is not None:
        return "relation"
    looks = [(role.colour, role.shape) for role in spec.roles]
    if any(a[0] != b[0] and a[1] != b[1] for a in looks for b in looks):
        return "colour_binding"
    if any(role.count > 1 for role in spec.roles):
        return "counting"
    return "two_objects" if len(spec.roles) > 1 else "single_object"


def draw_spec(cfg: WorldConfig, rng: np.random.Generator) -> Spec:
    """What prompts ask: 1 to max_objects objects, sometimes alike, sized or related."""
    total = int(rng.integers(1, cfg.max_objects + 1))
    alike = total > 1 and rng.random() < 0.25
    kinds = [(pick(cfg.colours, rng), pick(cfg.shapes, rng)) for _ in range(total)]
    sized = total <= 2 and rng.random() < cfg.sized
    size = [pick(SIZES, rng) if sized else None for _ in range(total)]
    if alike:
        roles = [Role(kinds[0][1], kinds[0][0], total, size[0])]
    else:
        roles = [
            Role(s, c, 1, z) for (c, s), z in zip(dict.fromkeys(kinds), size, strict=False)
        ]  # fmt: skip
    relation = None
    if len(roles) == 2 and rng.random() < cfg.related:
        relation = pick(RELATIONS, rng)
    background = pick(cfg.backgrounds, rng) if rng.random() < 0.75 else None
    return Spec(tuple(roles), background, relation)


def draw_in_split(cfg: WorldConfig, split: str, rng: np.random.Generator) -> Spec:
    """A spec of one split, by rejection."""
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    while True:
        spec = draw_spec(cfg, rng)
        if split_of(spec) == split:
            return spec


def draw_concept_spec(cfg: WorldConfig, rng: np.random.Generator) -> Spec:
    """A request for a concept, one time in three beside something ordinary."""
    count = 1 if rng.random() < 0.75 else 2
    size = pick(SIZES, rng) if count == 1 and rng.random() < 0.2 else None
    roles = [Role(CONCEPT, count=count, size=size)]
    if count == 1 and rng.random() < 0.4:
        other = draw_in_split(cfg, "train", rng).roles[0]
        roles.append(Role(other.shape, other.colour))
    background = pick(cfg.backgrounds, rng) if rng.random() < 0.75 else None
    return Spec(tuple(roles), background)


def scene_for(
    cfg: WorldConfig, spec: Spec, rng: np.random.Generator, concept: Concept | None = None
) -> Scene:
    """A true picture of a spec; its things stand in the order of the roles."""
    wanted = tuple(
        Wanted(look_of(role, concept), role.size) for role in spec.roles for _ in range(role.count)
    )
    return draw_scene(cfg, wanted, spec.background, spec.relation, rng)


def look_of(role: Role, concept: Concept | None) -> Look:
    if role.shape == CONCEPT:
        if not isinstance(concept, Look):
            raise ValueError(f"{CONCEPT} has no look of its own: pass the concept it stands for")
        return concept
    if role.colour is None:
        raise ValueError(f"the role {noun(role)!r} has no colour")
    outline = OUTLINES[role.shape]
    if isinstance(concept, Style):
        outline = concept.drawn(outline)
    return Look(HUES[role.colour], outline)
