"""What the measuring scripts share: options, kept measurements and claim records.

A measurement is kept in the working folder under a hash of everything that decides it (weights,
prompts, seeds, grid, guidance, and how the world draws and judges), so a script that runs again
goes on where it was stopped, and two scripts that need the same pictures draw them once.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save

from fewstep import claims
from fewstep.evaluate.generate import GenerationSpec, generate
from fewstep.evaluate.grids import to_bytes
from fewstep.evaluate.measures import PICTURES, Instruments, Measures, in_memory, measure
from fewstep.evaluate.statistics import Estimate, Weights, prompt_weights
from fewstep.families.base import Family
from fewstep.hashing import text_hash
from fewstep.machine import environment
from fewstep.rng import seed_of
from fewstep.runs import write_atomic
from fewstep.shapes import Pixels
from fewstep.worlds.base import World


@dataclass(frozen=True)
class Roots:
    """Where a script writes."""

    results: Path
    docs: Path
    work: Path

    @property
    def measured(self) -> Path:
        """Kept measurements, shared by all scripts."""
        return self.work / "measured"


def add_common(parser: argparse.ArgumentParser) -> None:
    """Options that every measuring script has."""
    parser.add_argument("--model", default="shapes", help="a diffusers directory")
    parser.add_argument("--engine", choices=("plain", "fused", "compiled"), default="plain")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=4, help="pictures of each prompt")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--work", type=Path, default=Path("runs/studies"))


def roots(args: argparse.Namespace) -> Roots:
    return Roots(args.results, args.docs, args.work)


def part(text: str) -> tuple[int, int]:
    """ "0/2": every second item, from the first; ValueError otherwise."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise ValueError(f"a part reads 0/2 or 1/2, got {text!r}")
    return int(index), int(count)


@lru_cache
def rules(world: World) -> str:
    """Identifies how a world draws and judges, by what it does with a few pictures, true and
    spoiled: a change of its code that changes nothing keeps every measurement."""
    prompts, seeds = world.prompts("test", 32), list(range(32))
    pictures = world.truth(prompts, seeds)
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    found = [to_bytes(pictures).tobytes(), world.features(pictures).mean(0).round(2).tobytes()]
    for share in (0.0, 0.05, 0.1, 0.15, 0.2):
        spoiled = (pictures + share * noise).clamp(0, 1)
        found += [right.tobytes() for right in world.adherence(spoiled, prompts).values()]
        found.append(world.layouts(spoiled, prompts).round(2).tobytes())
    return text_hash(" ".join(part.hex() for part in found))


@dataclass(frozen=True)
class Seen:
    """Pictures that were drawn and measured."""

    measures: Measures
    saturated: float
    """Share of channel values at either end of the range."""


def kept(
    folder: Path, key: Mapping[str, Any], compute: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """What `compute` returns, from the folder if it was computed for this key before."""
    text = json.dumps(key, sort_keys=True)
    path = folder / f"{text_hash(text)}.safetensors"
    if path.exists():
        return load_file(path)
    found = {name: np.ascontiguousarray(value) for name, value in compute().items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(path, save(found, metadata={"key": text}))
    return found


def drawn(
    folder: Path, family: Family, spec: GenerationSpec, world: World, *,
    engine: str = "plain", batch: int = 32,
) -> Seen:  # fmt: skip
    """Draw and measure the pictures of a spec. FloatingPointError if they are not finite."""
    named = {key: value for key, value in spec.to_json().items() if key != "model"}

    def images() -> Pixels:
        print(f"drawing {spec.total} pictures: {spec.model}, {spec.calls} calls each", flush=True)
        return generate(family, family.backbone, spec, batch_size=batch)

    return seen(folder, named | {"engine": engine}, images, spec.prompts, spec.seeds, world)


def seen(
    folder: Path, key: Mapping[str, Any], images: Callable[[], Pixels],
    prompts: Sequence[str], seeds: Sequence[int], world: World,
) -> Seen:  # fmt: skip
    """The kept measurement of pictures of prompts x seeds."""

    def compute() -> dict[str, np.ndarray]:
        pictures = images()
        if not pictures.isfinite().all():
            raise FloatingPointError("the pictures are not finite")
        instruments = Instruments(features={"shapes": world.features})
        m = measure(in_memory(pictures, prompts, seeds), world, instruments)
        ends = (pictures < 1 / 255) | (pictures > 254 / 255)
        return {
            "features": m.features["shapes"], "layout_distance": m.spreads["layout"],
            "pixel_std": m.spreads["pixel_std"], **m.pictures,
            "saturated": np.array([ends.float().mean().item()]),
            **{f"adherence.{name}": right for name, right in m.adherence.items()},
        }  # fmt: skip

    found = kept(folder, {**key, "world": rules(world)}, compute)
    right = {n.partition(".")[2]: v for n, v in found.items() if n.startswith("adherence.")}
    measures = Measures(
        prompts=tuple(prompts), n_seeds=len(seeds), features={"shapes": found["features"]},
        # "all" first, whatever order the file has
        adherence=dict(sorted(right.items(), key=lambda item: item[0] != "all")),
        categories=world.categories(prompts),
        # what was kept before a metric was thought of goes without it
        spreads={
            name: found[key]
            for name, key in (("pixel_std", "pixel_std"), ("layout", "layout_distance"))
            if key in found
        },
        pictures={name: found[name] for name in PICTURES if name in found},
    )  # fmt: skip
    return Seen(measures, float(found["saturated"][0]))


def true_pictures(
    folder: Path, world: World, prompts: Sequence[str], seeds: Sequence[int],
    through: Family | None = None,
) -> Measures:  # fmt: skip
    """The kept measurement of true pictures, as they are or through a family's autoencoder."""

    def images() -> Pixels:
        asked = [prompt for prompt in prompts for _ in seeds]
        pictures = world.truth(asked, [*seeds] * len(prompts))
        if through is None:
            return pictures
        return torch.cat([through.decode(through.encode_image(b)) for b in pictures.split(32)])

    key: dict[str, Any] = {"true": "truth", "seeds": list(seeds), "prompts": list(prompts)}
    if through is not None:
        key |= {"true": "decoded", "fingerprint": through.fingerprint()}
    return seen(folder, key, images, prompts, seeds, world).measures


def weights_of(n_prompts: int) -> Weights:
    """The bootstrap weights that every script uses for so many prompts."""
    return prompt_weights(n_prompts, np.random.default_rng(seed_of("bootstrap")))


def few_threads(threads: int) -> torch.device:
    torch.set_num_threads(threads)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(record, indent=1, allow_nan=False).encode() + b"\n")


def facts(command: str, threads: int) -> dict[str, Any]:
    """How a result was made, for its record."""
    found = environment()
    return {
        "command": command,
        "hardware": f"{found['cpu']}, {threads} thread{'s' if threads > 1 else ''}",
        "versions": {"python": found["python"], **found["versions"]},
        "date": datetime.now(UTC).date().isoformat(),
    }


def claim(
    name: str, text: str, e: Estimate, *, made: Mapping[str, Any], n: int, goal: str = "",
    unit: str = "", note: str = "", area: str = "spine",
) -> claims.Claim:  # fmt: skip
    """The record `<area>.<name>`; a value that is not finite becomes None, so `note` must say why.

    n is what was repeated, and `note` says what that is.
    """
    value = e.value if math.isfinite(e.value) else None
    known = value is not None and math.isfinite(e.low) and math.isfinite(e.high)
    return claims.Claim(
        id=f"{area}.{name}", claim=text, value=value,
        low=min(e.low, e.value) if known else None, high=max(e.high, e.value) if known else None,
        n=n, unit=unit, goal=goal, met=claims.verdict(value, goal), note=note, **made,
    )  # fmt: skip
