"""How many prompts there are: every text that `prompts.draw_spec` and `prompts.say` can give."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations, permutations, product

from fewstep.worlds.shapes.prompts import RELATIONS, SIZES, Role, Spec, split_of
from fewstep.worlds.shapes.scene import WorldConfig

WAYS, WAYS_WITHOUT = 3, 2
"""Phrasings of a list of objects on a background, and where none is named."""


@lru_cache
def count_prompts(cfg: WorldConfig, split: str) -> int:
    """Different texts in a split of this level, in a second or two for the hardest one."""
    return sum(phrasings(spec) for spec in every_spec(cfg) if split_of(spec) == split)


def phrasings(spec: Spec) -> int:
    """Texts that ask for a spec; the order of its objects is free unless a relation fixes it."""
    orders = 1 if spec.relation is not None else math.factorial(len(spec.roles))
    return orders * (WAYS_WITHOUT if spec.background is None else WAYS)


def every_spec(cfg: WorldConfig) -> Iterator[Spec]:
    """Each spec of a level once, whatever the order of objects that no relation orders."""
    for roles, background in product(every_list(cfg), (None, *cfg.backgrounds)):
        yield Spec(roles, background)
        if len(roles) == 2 and cfg.related:
            for ordered, relation in product(permutations(roles), RELATIONS):
                yield Spec(ordered, background, relation)


def every_list(cfg: WorldConfig) -> Iterator[tuple[Role, ...]]:
    """The objects that can be asked for together: alike ones as one role, or one of each look."""
    looks = list(product(cfg.colours, cfg.shapes))
    sizes = SIZES if cfg.sized else ()
    for (colour, shape), count in product(looks, range(1, cfg.max_objects + 1)):
        for size in (None, *(sizes if count <= 2 else ())):
            yield (Role(shape, colour, count, size),)
    for count in range(2, cfg.max_objects + 1):
        for chosen in combinations(looks, count):
            for size in (count * (None,), *(product(sizes, repeat=2) if count == 2 else ())):
                yield tuple(Role(s, c, 1, z) for (c, s), z in zip(chosen, size, strict=True))
