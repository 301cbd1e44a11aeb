"""The only training loop: it runs the phases of any method, step after step.

A step (`train.step`) is a function of (weights, optimizers, seed, step) alone, so a run that is
stopped and resumed from a checkpoint ends in the weights of one that was not, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from rich.console import Console

from fewstep.data.batches import Batch
from fewstep.errors import UserError
from fewstep.methods.base import Method, nothing
from fewstep.nets.shard import reshard
from fewstep.runs import Follower, Run, RunError
from fewstep.train import checkpoint
from fewstep.train.checkpoint import Progress
from fewstep.train.firsts import Firsts
from fewstep.train.frozen import Frozen
from fewstep.train.gauge import Gauge
from fewstep.train.in_backward import reached
from fewstep.train.optim import Optim
from fewstep.train.progress import ProgressLine
from fewstep.train.ranks import ALONE, Ranks
from fewstep.train.rows import Means, log, note, together
from fewstep.train.saving import Saving
from fewstep.train.signals import stop_requests
from fewstep.train.step import run_step
from fewstep.train.stopwatch import Stopwatch
from fewstep.train.watch import Watch


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    steps: int = 1000
    log_every: int = 10
    """A row of metrics for each phase: means over the steps since the last one."""
    checkpoint_every: int = 200
    """There is one more at the end, and one when the run is interrupted."""
    keep: int = 2
    """Checkpoints kept, newest first."""
    max_skips: int = 10
    """Steps in a row with a loss or gradient that is not finite after which the run stops."""

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "checkpoint_every", "keep", "max_skips"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"loop.{name} must be >= 1, got {value}")


class NotFiniteError(RuntimeError):
    """Too many steps in a row had a loss or gradient that is not finite."""


@dataclass(frozen=True)
class Hook:
    """Something done between steps; see `every`."""

    n: int
    run: Callable[[int], None]
    at_start: bool = False
    follow: Callable[[int], None] | None = None
    """What the processes other than the first do meanwhile, where weights are sharded and a forward
    takes all of them."""

    def due(self, step: int) -> bool:
        """After `step` steps are done; step 0 is before the first."""
        return step % self.n == 0 if step else self.at_start


def every(
    n: int, fn: Callable[[int], None], *, at_start: bool = False,
    follow: Callable[[int], None] | None = None,
) -> Hook:  # fmt: skip
    """Call fn(steps done) after each n-th step and, where asked, before the first.

    A hook must leave weights and optimizers alone. It runs after the checkpoint of its step (of
    sharded weights after their copy), and a run that resumes at that step calls it again: what it
    writes must be the same both times.
    """
    if n < 1:
        raise ValueError(f"a hook must run every n >= 1 steps, got {n}")
    return Hook(n, fn, at_start, follow)


@dataclass(frozen=True)
class Outcome:
    """How a run ended: at its last step, or earlier because it was interrupted or its gauge said
    so."""

    step: int
    finished: bool
    skipped: int
    why: str | None = None
    """What the gauge or the watch said; such a run is finished too."""
    weights: int | None = None
    """The step whose weights the run ended with, where the watch went back to them at the end."""


def train(
    method: Method,
    batches: Callable[[int], Sequence[Batch]],
    cfg: LoopConfig,
    run: Run | Follower,
    optims: Mapping[str, Optim],
    hooks: Sequence[Hook] = (),
    *,
    seed: int,
    device: torch.device | str = "cpu",
    console: Console | None = None,
    gauge: Gauge | None = None,
    watch: Watch | None = None,
    ranks: Ranks = ALONE,
    stopping: Callable[[], bool] | None = None,
    frozen: Frozen | None = None,
    after_first: Callable[[], None] = nothing,
) -> Outcome:
    """Train to `cfg.steps`, from the newest complete checkpoint of the run if there is one.

    batches  the micro-batches of a step, a function of the step alone
    optims   one for each phase that the method yields, by its name
    gauge    comes after the hooks of its steps, may change weights and rates, and may end the run;
             with one process alone
    watch    the same, with any number of processes; comes before the gauge
    ranks    of several processes the first has the run and does the hooks; the others follow. Where
             they say that weights are sharded, those of `method` and `optims` are
    stopping tells whether this process was asked to stop, where the caller listens to signals;
             None listens here
    frozen   is looked at before each checkpoint
    after_first is called once every optimizer has made an update here

    SIGINT and SIGTERM end it after the step in hand, with a checkpoint; a second one at once. Of
    several processes one signal to one of them ends all after the same step, and a second is not
    heard.
    Raises NotFiniteError, and RunError where the run directory cannot be read or written or where
    frozen weights have changed.
    """
    console = Console() if console is None else console
    progress = Progress()
    found = checkpoint.newest(run.checkpoints, lambda text: console.print(f"warning: {text}"))
    if found is not None:
        progress = checkpoint.load(found, method.modules, optims)
    if len(steps := set(ranks.all_facts(progress.step))) > 1:
        raise RunError(
            f"the processes go on from different steps ({', '.join(map(str, sorted(steps)))}); all "
            f"of them must see the same folder {run.directory}"
        )
    run.rewind(progress.step)
    if gauge is not None:
        if not isinstance(run, Run) or ranks.count > 1:
            raise ValueError("a gauge needs a run of one process")
        gauge.begin(run, progress.step)
    if watch is not None:
        watch.begin(run, progress.step, method.modules, optims, ranks)

    saving = Saving(run.checkpoints, method.modules, optims, cfg.keep, ranks)
    saved = progress.step if found is not None else 0
    means: dict[str, Means] = {}
    clock = Stopwatch()
    unlogged = 0  # steps since the last row
    line = ProgressLine("train", progress.step, cfg.steps, console)

    def write_row() -> None:
        nonlocal means, unlogged
        whole = together(means, ranks)
        log(run, optims, whole, progress, clock.lap(), unlogged, device)
        line.update(progress.step, note(whole))
        means, unlogged = {}, 0

    def save() -> None:
        # A checkpoint closes the running means, or a resumed run would log half of them.
        nonlocal saved
        if unlogged:
            write_row()
        saving.finish()  # what has been begun is good, whatever is found now
        if frozen is not None:
            frozen.check(progress.step, ranks)
        saving.save(progress)
        saved = progress.step

    def run_hooks() -> None:
        with clock.paused():
            for hook in hooks:
                act = hook.run if ranks.first else hook.follow if ranks.sharded else None
                if hook.due(progress.step) and act is not None:
                    act(progress.step)
            if ranks.sharded:
                reshard(method.modules.values())
        saving.look()  # files are written while pictures are drawn

    def look_at_health() -> str | None:
        if watch is None or not watch.due(progress.step):
            return None
        if watch.cfg.keeps and progress.step == 0:
            save()
        if unlogged:
            write_row()  # a look is about all steps before it
        with clock.paused():
            why = watch.look(run, progress.step, say=line.say, settle=saving.finish, ranks=ranks)
            if ranks.sharded:
                reshard(method.modules.values())
        return why

    def look_at_concept() -> str | None:
        if gauge is None or not gauge.due(progress.step):
            return None
        assert isinstance(run, Run)
        if progress.step != saved or progress.step == 0:
            save()  # what the gauge sees is what a resumed run finds, whatever it then does
        saving.finish()
        with clock.paused():
            return gauge.look(run, progress.step)

    def look() -> str | None:
        return look_at_health() or look_at_concept()

    listening = (
        stop_requests(patient=ranks.count > 1) if stopping is None else nullcontext(stopping)
    )
    with line, listening as stopping:
        if found is not None:
            line.say(f"resumed at step {progress.step} from {found}")
        run_hooks()
        why = look()
        firsts = Firsts(optims, after_first, line.say)
        while progress.step < cfg.steps and why is None and not ranks.any(stopping()):
            step = progress.step
            try:
                given = batches(step)
            except UserError:  # all processes read the same, and find the same
                saving.finish()
                raise
            bad = run_step(
                method, given, optims, means, seed=seed, step=step, device=device,
                ranks=ranks,
            )  # fmt: skip
            in_a_row = progress.skipped_in_a_row + 1 if bad else 0
            if in_a_row >= cfg.max_skips:
                saving.finish()
                raise NotFiniteError(
                    f"stopped at step {step}: {bad} was not finite in {in_a_row} steps in a row "
                    f"(loop.max_skips = {cfg.max_skips}); {reached(optims)}, lower the learning "
                    "rate"
                )
            if bad:
                line.say(f"step {step} skipped: {bad} is not finite; {reached(optims)}")
            skipped = progress.skipped + (bad is not None)
            progress = Progress(step=step + 1, skipped=skipped, skipped_in_a_row=in_a_row)
            unlogged += 1
            saving.look()
            firsts.look()

            if progress.step == cfg.steps or progress.step % cfg.checkpoint_every == 0:
                save()
            elif progress.step % cfg.log_every == 0:
                write_row()
            else:
                line.update(progress.step)
            run_hooks()
            why = look()
        if progress.step != saved:
            if watch is not None and watch.cfg.keeps:
                saving.finish()
                watch.hold(run, progress.step, ranks)
            save()
        saving.finish()
        # who ends first would be taken for a failure by torchrun, which then ends the others
        ranks.wait()
    finished = progress.step >= cfg.steps or why is not None
    weights = None if watch is None or why is None else watch.course.take
    return Outcome(progress.step, finished, progress.skipped, why, weights)
