"""What the readers of an adapter file get, against the adapter that was trained.

    python -m benchmarks.adapter_export --results results

Adapters of three kinds on the packaged Shapes model, with random factors that bfloat16 holds
exactly, so that what is left is the readers' own arithmetic: `fewstep.families.adapter_check` loads
each file with diffusers and patches it by ComfyUI's rules. The record is `sda.export_max_error`.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

import torch
from benchmarks.common import claim, facts

from fewstep import claims
from fewstep.evaluate.statistics import Estimate
from fewstep.experiment.models import load_family
from fewstep.families import adapter_check
from fewstep.families.adapter_check import Verdict
from fewstep.families.adapter_files import AdapterCard
from fewstep.nets.adapters import AdapterConfig, adapt, adapter_state, adapters_of
from fewstep.nets.share import share
from fewstep.rng import seed_of

KINDS = {
    "LoKr, whole factors": AdapterConfig(factor=4),
    "LoKr, rank 4": AdapterConfig(factor=4, rank=4),
    "LoRA, rank 8": AdapterConfig(kind="lora", rank=8),
}
SEEDS = 3
SIZE = 0.3
"""Deviation of the random factors, large: the record's note says by how much the velocity moves."""


def verdict_of(cfg: AdapterConfig, seed: int, folder: Path) -> Verdict:
    """Of a random adapter, written and read back."""
    family = load_family("shapes", torch.device("cpu"))
    student = share(family.backbone)
    adapt(student, cfg, seed)
    draws = torch.Generator().manual_seed(seed_of("random adapter", seed))
    with torch.no_grad():
        for adapter in adapters_of(student).values():
            for factor in adapter.parameters():
                drawn = SIZE * torch.randn(factor.shape, generator=draws)
                factor.copy_(drawn.bfloat16())
    card = AdapterCard(
        method="none", base_model="shapes", base_hash=family.fingerprint(), teacher_hash="",
        recipe="random", step=0, licence="Apache-2.0",
    )  # fmt: skip
    path = folder / "adapter.safetensors"
    return adapter_check.save(path, adapter_state(student), card, family, student)


def main() -> None:
    parser = argparse.ArgumentParser(description="What the readers of an adapter file get.")
    parser.add_argument("--results", type=Path, help="folder to write the record to")
    args = parser.parse_args()
    torch.set_num_threads(1)
    worst = 0.0
    told: list[str] = []
    for name, cfg in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            found = [verdict_of(cfg, seed, Path(folder)) for seed in range(SEEDS)]
        errors = [
            max(v.diffusers_weight_error, v.comfyui_weight_error, v.velocity_error) for v in found
        ]
        moved = min(v.velocity_change for v in found)
        told.append(f"{name}: {max(errors):.2g}, velocity moved by at least {moved:.2g}")
        print(told[-1])
        worst = max(worst, *errors)
    if args.results is None:
        return
    record = claim(
        "export_max_error", "largest relative error of what diffusers and ComfyUI's rules read "
        "from an adapter file", Estimate(worst, math.nan, math.nan, 0, 0), area="sda",
        made=facts("python -m benchmarks.adapter_export --results results", 1),
        n=len(KINDS) * SEEDS,
        note="n = random adapters on the Shapes model, exact in bfloat16; the largest of dW by "
        f"either reader and of the velocity by diffusers; {'; '.join(told)}",
    )  # fmt: skip
    print(f"wrote {claims.write([record], 'sda', args.results)}")


if __name__ == "__main__":
    main()
