"""Forward time of a LoKr on the widest layer of Z-Image, over that of the layer alone.

    OMP_NUM_THREADS=1 python -m benchmarks.lokr_speed --results results

Linear(3840 -> 10240), 1024 tokens, bfloat16, one thread: the layer alone, our `Adapted` with a full
LoKr of factor 8, and peft's LoKr layer, which materialises the Kronecker product in each forward,
with the same tensors in bfloat16 and in float32 (which training through peft takes). All in turn,
in each round in another order, after one round that is not counted. The outputs are compared with
float32 first. The record is `sda.lokr_forward_ratio_cpu`, on a GPU `fit.lokr_forward_ratio_gpu`.
About two minutes where the processor has bfloat16 units; without them the script says so, for the
ratio is then that of an emulation.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from benchmarks.common import claim, weights_of
from benchmarks.large import made_by, wait
from numpy.typing import NDArray
from peft import LoKrConfig
from peft.tuners.lokr.layer import Linear as PeftLoKr
from torch import Tensor, nn

from fewstep import claims
from fewstep.evaluate.statistics import Estimate, divide, estimate
from fewstep.nets.adapters import Adapted
from fewstep.nets.lokr import LoKr, factorization
from fewstep.rng import seed_of

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
IN, OUT, TOKENS, FACTOR = 3840, 10240, 1024, 8
LARGEST_ERROR = 0.01
"""Of an output in bfloat16 against float32, relative and in norm."""


def random(name: str, *shape: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed_of("lokr_speed", name))
    return scale * torch.randn(shape, generator=generator)


def layer() -> nn.Linear:
    base = nn.Linear(IN, OUT, bias=False, device="meta")
    base.weight = nn.Parameter(random("base", OUT, IN, scale=IN**-0.5).bfloat16())
    return base.requires_grad_(False)


def ours(base: nn.Linear) -> Adapted:
    """A delta a third of the size of the layer."""
    outs, ins = factorization(OUT, FACTOR), factorization(IN, FACTOR)
    draws = torch.Generator().manual_seed(0)
    adapter = LoKr(outs, ins, generator=draws, device=base.weight.device)
    with torch.no_grad():
        adapter.lokr_w2.copy_(random("w2", *adapter.lokr_w2.shape, scale=ins[1] ** -0.5))
    return Adapted(base, adapter, name="feed_forward.w1")


def peft(base: nn.Linear, adapter: LoKr, dtype: torch.dtype) -> nn.Module:
    """peft's layer with the same tensors; the rank is what makes it full."""
    config = LoKrConfig(decompose_factor=FACTOR)
    other = PeftLoKr(base, "default", config=config, r=OUT, alpha=OUT)
    for name, value in adapter.named_parameters():
        getattr(other, name)["default"] = nn.Parameter(value.detach().to(dtype))
    return other


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """By the clock, of a GPU until it is done, and of the processor."""
    wait(DEVICE)
    start = time.perf_counter(), time.process_time()
    work()
    wait(DEVICE)
    return time.perf_counter() - start[0], time.process_time() - start[1]


def measure(ways: Mapping[str, Callable[[], Tensor]], rounds: int) -> NDArray[np.float64]:
    """(rounds, ways, 2): the two times of `seconds`."""
    times = np.zeros((rounds + 1, len(ways), 2))
    works = list(ways.values())
    for turn in range(rounds + 1):
        generator = torch.Generator().manual_seed(seed_of("order", turn))
        for i in torch.randperm(len(works), generator=generator).tolist():
            times[turn, i] = seconds(works[i])
    return times[1:]


def ratio(top: NDArray[np.float64], bottom: NDArray[np.float64]) -> Estimate:
    """Of the total times, resampled by rounds."""
    weights = weights_of(len(top))
    return estimate(divide(weights @ top, weights @ bottom), len(top), 1)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description="Forward time of a LoKr over its layer's.")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--results", type=Path, help="folder to write the record to")
    args = parser.parse_args()
    if args.rounds < 16:
        parser.error(f"--rounds must be at least 16 for an interval, got {args.rounds}")
    torch.set_num_threads(1)
    able = torch.cpu.get_capabilities()
    units = [name for name in ("amx_bf16", "avx512_bf16") if able.get(name)]
    if DEVICE.type == "cuda":
        units = [torch.cuda.get_device_name()]
    print(f"bfloat16 units: {units or 'none, the ratio is that of an emulation'}")

    base, x = layer().to(DEVICE), random("x", TOKENS, IN).bfloat16().to(DEVICE)
    adapted = ours(base)
    assert isinstance(adapted.adapter, LoKr)
    modules: dict[str, nn.Module] = {
        "ours": adapted,
        "peft": peft(base, adapted.adapter, torch.bfloat16),
        "peft, float32": peft(base, adapted.adapter, torch.float32),
    }
    exact = x.float() @ (base.weight.float() + adapted.adapter.delta()).T
    for name, module in modules.items():
        module.to(DEVICE)
        error = float((module(x).float() - exact).norm() / exact.norm())
        print(f"{name}: relative error {error:.2g}")
        if error > LARGEST_ERROR:
            raise ValueError(f"{name} does not compute the layer: relative error {error:.2g}")

    ways = {name: partial(module, x) for name, module in ({"base": base} | modules).items()}
    times = measure(ways, args.rounds)
    clock = {n: ratio(times[:, i, 0], times[:, 0, 0]) for i, n in enumerate(ways)}
    busy = {n: ratio(times[:, i, 1], times[:, 0, 1]) for i, n in enumerate(ways)}
    for i, name in enumerate(ways):
        ms = 1e3 * times[:, i].mean(0)
        print(f"{name}: {ms[0]:.1f} ms, processor {ms[1]:.1f} ms, ratio {clock[name]}")
    if args.results is None:
        return
    told = ", ".join(
        f"{name} {clock[name].value:.3g} ({clock[name].low:.3g} to {clock[name].high:.3g})"
        for name in ("peft", "peft, float32")
    )
    e = busy["ours"]
    gpu = DEVICE.type == "cuda"
    record = claim(
        f"lokr_forward_ratio_{'gpu' if gpu else 'cpu'}",
        f"forward time of Linear({IN} -> {OUT}) with a LoKr of factor {FACTOR} over the layer "
        f"alone, {TOKENS} tokens, bfloat16, {'GPU' if gpu else 'CPU'}",
        clock["ours"], area="fit" if gpu else "sda", n=args.rounds, unit="x",
        goal="<= 1.2" if gpu else "<= 1.8",
        made=made_by(
            f"OMP_NUM_THREADS=1 python -m benchmarks.lokr_speed --rounds {args.rounds} "
            "--results results", DEVICE,
        ),
        note=f"n = interleaved rounds; of processor time {e.value:.3g} ({e.low:.3g} to "
        f"{e.high:.3g}); layer alone {1e3 * times[:, 0, 0].mean():.0f} ms; the same LoKr in "
        f"peft's layer: {told}; bfloat16 units: {', '.join(units) or 'none'}",
    )  # fmt: skip
    print(f"wrote {claims.write([record], 'fit' if gpu else 'sda', args.results)}")


if __name__ == "__main__":
    main()
