"""What a run will take, from its rehearsal: memory, time, room, and the GPUs that it fits.

Counted: operations, bytes of tensors. Assumed, and said so in what is printed: what a GPU reaches
of its peak, what CUDA takes for itself, how long prompts are.
"""

from __future__ import annotations

from dataclasses import dataclass

from fewstep.experiment.builder import reads_live
from fewstep.experiment.config import Experiment
from fewstep.experiment.rehearsal import Kind, Lengths, Rehearsal
from fewstep.train.progress import duration

GIB = 1 << 30
SIZES = (12, 16, 24, 32, 48, 80, 141)
"""Of GPUs, in GB as they are sold."""
CONTEXT = 1 * GIB
"""What CUDA and its libraries hold beside tensors (assumed)."""
SLACK = 1.03
"""What the allocator holds beyond what is asked of it (assumed)."""
USED = (0.35, 0.55)
"""Of a GPU's peak, in training (assumed: what comparable trainers reach, and what good ones do)."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    name: str
    gigabytes: int
    flops: float
    """A second, of dense products in bfloat16."""
    bandwidth: float
    """Bytes a second."""
    link: float
    """Bytes a second from main memory or back (assumed: what its PCI Express gives, less a
    fifth)."""


GPUS = (
    Gpu(name="A100 80 GB", gigabytes=80, flops=312e12, bandwidth=2.0e12, link=25e9),
    Gpu(name="H200 141 GB", gigabytes=141, flops=790e12, bandwidth=4.8e12, link=50e9),
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    rehearsal: Rehearsal
    lengths: Lengths
    autoencoder: int
    """Bytes of it, which are there all the time."""
    readers: int
    """Bytes of what reads prompts: there while it reads, or all the time where every step does."""
    live: bool
    """Whether every step reads prompts."""
    samples: int
    """Batch size times steps."""
    storage: int
    """Bytes of teacher samples; 0 where none are drawn."""
    drawing: float
    """Operations of the teacher for all of them."""

    @property
    def peak(self) -> int:
        """The most bytes of tensors at once: in a step, or between two, while pictures are drawn
        and prompts read."""
        step = max(self.rehearsal.peaks.values()) + (self.readers if self.live else 0)
        return self.autoencoder + max(step, sum(self.rehearsal.parts.values()) + self.readers)

    @property
    def needs(self) -> float:
        """Gigabytes of a GPU, as they are sold by: one of 80 GB has 80 GiB, but for a percent."""
        return (self.peak * SLACK + CONTEXT) / GIB / 0.99

    def fits(self, gigabytes: float) -> bool:
        return self.needs <= gigabytes

    def beside(self, memory: int) -> str:
        """In a line, whether it fits a GPU with so many bytes."""
        wants, has = (self.peak * SLACK + CONTEXT) / GIB, memory / GIB
        return (
            f"this GPU has {has:.1f} GiB, which is enough" if wants <= has else
            f"warning: this GPU has {has:.1f} GiB, and the run wants {wants:.1f}: it will run out "
            "of memory"
        )  # fmt: skip

    def floor(self, kind: Kind, gpu: Gpu) -> float:
        """Seconds that a step cannot go below on this GPU."""
        moved = sum(self.rehearsal.moved[phase] for phase in kind.phases)
        crossed = 2 * sum(self.rehearsal.offloaded[phase] for phase in kind.phases)
        return sum(kind.flops.values()) / gpu.flops + moved / gpu.bandwidth + crossed / gpu.link

    def hours(self, gpu: Gpu) -> tuple[float, float, float]:
        """At the floor, and as long as the run should take at best and at worst."""
        lowest = sum(kind.steps * self.floor(kind, gpu) for kind in self.rehearsal.kinds) / 3600
        slow, fast = USED
        return lowest, lowest / fast, lowest / slow


def plan_of(
    experiment: Experiment, rehearsal: Rehearsal, lengths: Lengths, *, autoencoder: int,
    readers: int, forward: int, latent: int, cond: int,
) -> Plan:  # fmt: skip
    """autoencoder, readers, latent, cond  bytes of each
    forward                             operations of one pass of the teacher for one sample
    """
    cfg, data = experiment.data.samples, experiment.data
    drawn = cfg.prompts if data.reads("samples") else 0
    passes = cfg.steps * (2 if cfg.guidance != 1 else 1)
    kept = latent + (cond if cfg.texts == "kept" else 0)
    return Plan(
        rehearsal=rehearsal, lengths=lengths, autoencoder=autoencoder, readers=readers,
        live=reads_live(experiment),
        samples=experiment.loop.steps * data.batch_size, storage=drawn * kept,
        drawing=float(drawn * passes * forward),
    )  # fmt: skip


def lines(plan: Plan) -> list[str]:
    """The plan in words."""
    found = plan.rehearsal
    shown = [f"{name} {n / 1e6:,.1f}M" for name, n in found.parameters.items()]
    said = [f"parameters: {', '.join(shown)}"]
    for kind in found.kinds:
        each = ", ".join(f"{name} {n / 1e12:.3g}" for name, n in kind.flops.items())
        said.append(f"a step of {' and '.join(kind.phases)}: {each} TFLOP, {kind.steps:,} of them")
    parts = [f"{name} {size / GIB:.2f}" for name, size in found.parts.items() if size]
    said.append(
        f"GiB that stay: {', '.join(parts)}, autoencoder {plan.autoencoder / GIB:.2f}; text "
        f"encoder {plan.readers / GIB:.2f}{'' if plan.live else ' while it reads'}"
    )
    if waiting := sum(found.offloaded.values()):
        said.append(
            f"GiB in main memory: {found.pinned / GIB:.2f} (pinned, of which {waiting / GIB:.2f} "
            "are used), which every update fetches and brings back"
        )
    tops = [f"{name} {size / GIB:.2f}" for name, size in found.peaks.items()]
    said.append(f"GiB at the most, without these two: {', '.join(tops)}")
    fitting = [f"{size} GB" for size in SIZES if plan.fits(size)]
    said.append(
        f"peak {plan.peak / GIB:.2f} GiB of tensors; with {CONTEXT / GIB:.0f} GiB for CUDA and "
        f"{SLACK - 1:.0%} for its allocator (assumed) it fits "
        + (f"a GPU of {', '.join(fitting)}" if fitting else f"no GPU of {SIZES[-1]} GB or less")
    )
    for gpu in GPUS:
        if plan.fits(gpu.gigabytes):
            lowest, best, worst = plan.hours(gpu)
            low, mid, high = (duration(3600 * hours) for hours in (lowest, best, worst))
            said.append(
                f"{gpu.name}: {mid} to {high} at {USED[1]:.0%} to {USED[0]:.0%} of its peak "
                f"(assumed), never below {low}"
            )
    said.append(f"samples seen: {plan.samples:,}; prompts of {plan.lengths.cond} tokens (assumed)")
    if plan.storage:
        times = ", ".join(f"{duration(plan.drawing / g.flops / USED[1])} on an {g.name}"
                          for g in GPUS)  # fmt: skip
        said.append(
            f"teacher samples: {plan.storage / 1e9:.2f} GB on disk; drawn in {times} (at "
            f"{USED[1]:.0%} of its peak)"
        )
    return said
