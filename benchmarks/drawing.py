"""How fast a teacher draws: `fewstep precompute`'s way beside a loop over the diffusers pipeline.

    python -m benchmarks.drawing [--batch 8] [--steps 50]

Latents alone, with guidance. Ours draws a batch with both halves of guidance in one pass; the loop
calls `ZImagePipeline` with one prompt at a time, as its documentation does. Z-Image at full size
with random weights at 512 x 512 on a GPU, Shapes on a CPU; both ways by the library's own code, in
turn. Text is encoded beforehand for both. On the whole, `benchmarks.precompute` measures Shapes.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from benchmarks import pages
from benchmarks.large import (
    LENGTHS,
    add_options,
    chosen,
    gpu_peak,
    made_by,
    model_of,
    seconds,
    told,
)
from benchmarks.one_pass import speedup
from benchmarks.pages import shown
from torch.utils.flop_counter import FlopCounterMode

from fewstep.families.base import Cond
from fewstep.families.zimage import ZImage
from fewstep.flow.guidance import guided
from fewstep.flow.sample import euler
from fewstep.recipes import RECIPES

RECIPE = {"shapes": "ladd_shapes_demo", "zimage": "ladd_zimage_80gb"}
PIXELS = {"shapes": 64, "zimage": 512}


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description="Latents of a teacher a second.")
    add_options(found)
    found.add_argument("--batch", type=int, default=8)
    found.add_argument("--steps", type=int, default=50)
    found.add_argument("--rounds", type=int, default=3)
    found.add_argument("--guidance", type=float, default=3.0)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(words)
    size, device = chosen(args)
    experiment = RECIPES[RECIPE[size]]()
    family = model_of(size, experiment.model, experiment, device)
    it = Drawing(family, PIXELS[size], LENGTHS[size].cond, args)
    times: dict[str, list[float]] = {"ours": [], "loop": []}
    for turn in range(args.rounds + 1):
        for name in ("ours", "loop") if turn % 2 else ("loop", "ours"):
            took = seconds(getattr(it, name), device)
            if turn:
                times[name].append(took)
    ratio = speedup(times["loop"], times["ours"], 1)
    with FlopCounterMode(display=False) as counter:
        it.one()
    flops, top = 2 * args.batch * args.steps * counter.get_total_flops(), gpu_peak(device)
    each = {name: sum(t) / len(t) / args.batch for name, t in times.items()}
    record: dict[str, Any] = {
        **made_by(f"python -m benchmarks.drawing {shlex.join(words)}".strip(), device),
        "size": size, "pixels": PIXELS[size], "batch": args.batch, "steps": args.steps,
        "times": times, "seconds_a_picture": each, "flops_a_picture": flops / args.batch,
        "share_of_peak": None if top is None else flops / args.batch / each["ours"] / top,
        "loop_over_ours": ratio.to_json(),
    }  # fmt: skip
    told("drawing", size, record, args.results)
    share = record["share_of_peak"]
    print(pages.markdown(["way", "pictures a second", "share of the peak"], [
        ["ours", f"{1 / each['ours']:.3g}", "" if share is None else f"{share:.1%}"],
        ["a loop over the pipeline", f"{1 / each['loop']:.3g}", ""],
    ]))  # fmt: skip
    print(f"the loop over ours {shown(ratio)}")
    return 0


class Drawing:
    """The same pictures both ways, up to rounding."""

    def __init__(self, family: ZImage, pixels: int, tokens: int, args: argparse.Namespace) -> None:
        self.family, self.pixels, self.args = family, pixels, args
        self.device = family.pipeline.transformer.device
        draws = torch.Generator().manual_seed(0)
        wide = family.backbone.cond_width

        def told(n: int) -> Cond:
            each = (torch.randn(tokens, wide, generator=draws) for _ in range(n))
            return Cond(tuple(t.to(self.device) for t in each))

        self.cond, self.uncond = told(args.batch), told(1)
        shape = family.latent_shape(pixels, pixels)
        self.x = torch.randn(args.batch, *shape, generator=draws).to(self.device)

    @torch.no_grad()
    def ours(self) -> torch.Tensor:
        uncond = Cond(self.uncond.tokens * len(self.cond))
        velocity = guided(self.family.backbone, self.cond, uncond, self.args.guidance)
        return euler(velocity, self.x, self.family.sigmas(self.args.steps))

    @torch.no_grad()
    def loop(self) -> torch.Tensor:
        pipeline: Any = self.family.pipeline
        dtype = pipeline.transformer.dtype
        pipeline.set_progress_bar_config(disable=True)
        call = partial(
            pipeline, height=self.pixels, width=self.pixels, output_type="latent",
            num_inference_steps=self.args.steps,
            guidance_scale=self.family.pipeline_guidance(self.args.guidance),
            negative_prompt_embeds=[self.uncond.tokens[0].to(dtype)],
        )  # fmt: skip
        found = [
            call(prompt_embeds=[tokens.to(dtype)], latents=x[None]).images
            for tokens, x in zip(self.cond.tokens, self.x, strict=True)
        ]
        return torch.cat(found).float()

    @torch.no_grad()
    def one(self) -> None:
        """One pass for one picture."""
        sigma = torch.ones(1, device=self.device)
        self.family.backbone(self.x[:1], sigma, self.cond[:1])


if __name__ == "__main__":
    raise SystemExit(main())
