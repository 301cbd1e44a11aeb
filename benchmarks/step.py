"""Whole LADD steps of ours beside the naive one, and how much of a GPU they use.

    OMP_NUM_THREADS=1 python -m benchmarks.step [--pairs 20] [--batch 4]

The naive step has the same mathematics and shares nothing: its heads and its student make their own
fakes, which is three passes of the teacher and two of the student where ours makes two and one, by
the library's own code. Both go side by side from equal weights, one step each in turn, in the
recipe's own optimizers. On a CPU that is the Shapes recipe with its engine. On a GPU it is
`ladd_zimage_80gb`, over one set of weights, for two have no room: the ratio is then of the passes
alone. Operations are counted on the meta device; a share of a GPU's peak is these over time.

Then a profile of one step of ours says where the time goes. The records are fit.step_speedup_cpu,
and of Z-Image on a GPU fit.step_speedup_gpu, fit.mfu_student_step and fit.mfu_heads_step.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from benchmarks import pages
from benchmarks.common import claim
from benchmarks.large import (
    Case,
    Ready,
    add_options,
    chosen,
    gpu_peak,
    made_by,
    ready,
    seconds,
    told,
)
from benchmarks.memory import at
from benchmarks.naive_ladd import NaiveLADD
from benchmarks.one_pass import speedup
from benchmarks.pages import shown
from benchmarks.unmeasured import PLANNED
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from fewstep import claims
from fewstep.evaluate.statistics import Estimate
from fewstep.methods.base import Method
from fewstep.methods.ladd import LADD
from fewstep.train.step import accumulate

BOTH, ALONE = ("heads", "student"), ("heads",)
PLAIN: dict[str, Any] = {"engine": "plain"}


def case_of(size: str, batch: int | None, engine: str | None) -> Case:
    if size == "zimage":
        return Case(name="full", recipe="ladd_zimage_80gb", changes=at(512, batch or 4))
    changes: dict[str, Any] = {} if engine is None else {"engine": engine}
    if batch is not None:
        changes["data.batch_size"] = batch
    return Case(name="shapes", recipe="ladd_shapes_demo", changes=changes)


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(description="LADD steps, ours and the naive one.")
    add_options(parser)
    parser.add_argument("--pairs", type=int, default=20, help="steps of each that are timed")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--engine", choices=("plain", "fused", "compiled"), help="of Shapes")
    args = parser.parse_args(words)
    size, device = chosen(args)
    case = case_of(size, args.batch, args.engine)
    ours = ready(case, size, device)
    shared = size == "zimage"
    plain = Case(name="naive", recipe=case.recipe, changes={**case.changes, **PLAIN})
    other = ours if shared else ready(plain, size, device)
    assert isinstance(ours.method, LADD) and isinstance(other.method, LADD)
    naive = NaiveLADD(other.method, seed=0)

    apart = far(gradients(ours), gradients(other, naive))
    both, alone = ours.step_of(BOTH), ours.step_of(ALONE)
    times = timed(ours, other, naive, both, args.pairs)
    ratio = speedup(times["naive"], times["ours"], 1)
    heads = [seconds(lambda: ours.step(alone), device) for _ in range(args.pairs)]
    flops = {"both": counted(ours, both), "heads": counted(ours, alone)}
    took = {"both": middle(times["ours"]), "heads": middle(heads), "naive": middle(times["naive"])}
    top = gpu_peak(device)
    used = {k: None if top is None else flops[k] / took[k] / top for k in flops}
    command = f"python -m benchmarks.step {shlex.join(words)}".strip()
    facts = made_by(command, device)
    record = {
        **facts, "size": size, "recipe": case.recipe, "batch": ours.experiment.data.batch_size,
        "engine": ours.experiment.engine, "pairs": args.pairs, "speedup": ratio.to_json(),
        "seconds": took, "flops": flops, "share_of_peak": used, "gradients_apart": apart,
        "times": {**times, "heads": heads}, "most_time": most_time(ours, both),
    }  # fmt: skip
    told("step", size, record, args.results)
    print(pages.markdown(["step", "seconds (median)", "TFLOP", "share of the peak"], [
        ["naive, heads and student", f"{took['naive']:.3g}", "", ""],
        *([name, f"{took[k]:.3g}", f"{flops[k] / 1e12:.3g}",
           "" if used[k] is None else f"{used[k]:.1%}"]
          for k, name in (("both", "heads and student"), ("heads", "heads"))),
    ]))  # fmt: skip
    print(f"naive over ours {shown(ratio)}; gradients {apart:.1g} apart")
    for row in record["most_time"]:
        print(f"{row['share']:6.1%}  {row['name']}")
    found = records(size, device, ratio, used, facts, record)
    if found:
        print(f"wrote {claims.write(found, 'fit', args.results)}")
    return 0


def gradients(it: Ready, method: Method | None = None) -> dict[str, torch.Tensor]:
    """Of the student in a step of both phases, without moving anything."""
    own, step = method or it.method, it.step_of(BOTH)
    found: dict[str, torch.Tensor] = {}
    for phase in own.phases(step):
        inputs = list(it.optims[phase.name].parameters.values())
        accumulate(phase, [(it.batch, 1.0)], inputs, scale=1.0, seed=0, step=step, device=it.device)
        own_names = it.optims[phase.name].parameters
        found = {name: p.grad.float() for name, p in own_names.items() if p.grad is not None}
        it.optims[phase.name].zero_grad()
    return found


def far(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> float:
    """Relative, in norm; a weight that one has no gradient of has one of zero."""
    zero = torch.zeros(())
    apart = sum(
        float((a.get(name, zero) - b.get(name, zero)).square().sum())
        for name in a.keys() | b.keys()
    )
    return math.sqrt(apart / sum(float(y.square().sum()) for y in b.values()))


def timed(
    ours: Ready, other: Ready, naive: Method, step: int, pairs: int
) -> dict[str, list[float]]:
    """Seconds of steps of both phases, in turn, after two of each that do not count."""
    times: dict[str, list[float]] = {"ours": [], "naive": []}
    for i in range(pairs + 2):
        works = {
            "ours": lambda: ours.step(step), "naive": lambda: other.step(step, naive)
        }  # fmt: skip
        for name in ("ours", "naive") if i % 2 else ("naive", "ours"):
            took = seconds(works[name], ours.device)
            if i >= 2:
                times[name].append(took)
    return times


def middle(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def counted(it: Ready, step: int) -> int:
    """Operations of the step that was timed, by torch's counter."""
    total = 0
    for phase in it.method.phases(step):
        optim = it.optims[phase.name]
        with FlopCounterMode(display=False) as counter:
            accumulate(
                phase, [(it.batch, 1.0)], list(optim.parameters.values()), scale=1.0, seed=0,
                step=step, device=it.device,
            )  # fmt: skip
        optim.zero_grad()
        total += counter.get_total_flops()
    return total


def most_time(it: Ready, step: int, rows: int = 10) -> list[dict[str, Any]]:
    """What a step of ours spends most of its time in."""
    gpu = it.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    with profile(activities=activities) as seen:
        it.step(step)
    own = "self_device_time_total" if gpu else "self_cpu_time_total"
    each = sorted(((getattr(e, own), e.key) for e in seen.key_averages()), reverse=True)
    total = sum(time for time, _ in each)
    return [{"name": name, "share": time / total} for time, name in each[:rows]]


def records(
    size: str, device: torch.device, ratio: Estimate, used: Mapping[str, float | None],
    facts: Mapping[str, Any], record: Mapping[str, Any],
) -> list[claims.Claim]:  # fmt: skip
    top = ", ".join(f"{row['name']} {row['share']:.0%}" for row in record["most_time"][:4])
    note = (
        f"n = interleaved pairs; batch {record['batch']}, engine {record['engine']}; gradients "
        f"{record['gradients_apart']:.1g} apart; most time: {top}"
    )

    def of(name: str, value: Estimate) -> claims.Claim:
        text, goal, _ = PLANNED["fit"][name]
        return claim(name, text, value, area="fit", made=facts, n=record["pairs"], goal=goal,
                     note=note)  # fmt: skip

    if size == "shapes" and device.type == "cpu":
        return [of("step_speedup_cpu", ratio)]
    if size == "shapes" or device.type == "cpu":
        return []
    both, heads = used["both"], used["heads"]
    assert both is not None and heads is not None
    return [of("step_speedup_gpu", ratio)] + [
        of(name, Estimate(value, math.nan, math.nan, 0, 0))
        for name, value in (("mfu_student_step", both), ("mfu_heads_step", heads))
    ]


if __name__ == "__main__":
    raise SystemExit(main())
