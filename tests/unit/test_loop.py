"""The loop on a problem with a closed form."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from tests.games import Game, new_run
from torch import Tensor, nn
from torch.testing import assert_close

from fewstep.data.batches import Batch
from fewstep.families.base import Cond
from fewstep.methods.base import Logs, Part, Phase, PhaseInParts
from fewstep.rng import Rng
from fewstep.train import stopwatch
from fewstep.train.loop import LoopConfig, every, train
from fewstep.train.optim import Optim, OptimConfig, updates_per_phase
from fewstep.train.rows import Means
from fewstep.train.step import run_step
from fewstep.train.stopwatch import Seconds, Stopwatch

SGD_LIKE = OptimConfig(lr=0.1, betas=(0.0, 0.0), clip=None)


class Point(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([3.0, -4.0]))


class Pull:
    """Two modules; "a" moves at every step, "b" at every third. The loss is (w . mean(x0)) ."""

    def __init__(self) -> None:
        self.a, self.b = Point(), Point()
        self.modules: Mapping[str, nn.Module] = {"a": self.a, "b": self.b}
        self.after: list[int] = []
        self.bad: dict[int, str] = {}
        self.seen: list[tuple[object, ...]] = []

    def exported(self) -> nn.Module:
        return self.a

    def phases(self, step: int) -> Iterator[Phase]:
        for name, module, due in (("a", self.a, True), ("b", self.b, step % 3 == 2)):
            if due:
                yield Phase(
                    name, module, lambda b, r, m=module: self.loss(m, b, r, step),
                    after=lambda: self.after.append(step),
                )  # fmt: skip

    def loss(self, module: Point, batch: Batch, rng: Rng, step: int) -> tuple[Tensor, Logs]:
        self.seen.append((*rng.key, rng.ids))
        loss = (batch.x0.flatten(1) @ module.w).mean()
        match self.bad.get(step):
            case "nan loss":
                loss = loss * math.nan
            case "inf gradient":
                loss = loss + torch.sqrt(module.w[0] - module.w[0].detach())
            case _:
                pass
        return loss, {"mean_x0": batch.x0.mean(), "vector": batch.x0.flatten(1).mean(0)}


def batch(*values: tuple[float, float], name: str = "s") -> Batch:
    return Batch(
        ids=tuple(f"{name}{i}" for i in range(len(values))),
        x0=torch.tensor(values).reshape(-1, 2, 1, 1),
        cond=Cond(tuple(torch.zeros(1, 1) for _ in values)),
    )


def optims_for(method: Pull, cfg: OptimConfig = SGD_LIKE, steps: int = 9) -> dict[str, Optim]:
    total = updates_per_phase(method, steps)
    return {n: Optim(cfg, m, total=total[n]) for n, m in method.modules.items()}


def gradient_norm(method: Pull, batches: list[Batch]) -> tuple[float, Tensor, Tensor]:
    means: dict[str, Means] = {}
    assert run_step(method, batches, optims_for(method), means, seed=5, step=0) is None
    values = means["a"].values()
    return float(str(values["grad_norm"])), torch.tensor(values["vector"]), method.a.w.detach()


def test_trap23_micro_batches_count_by_their_samples() -> None:
    """The gradient is the mean of x0 over all samples however they are split: (2, 1)."""
    whole = [batch((1.0, 0.0), (2.0, 1.0), (3.0, 2.0))]
    split = [batch((1.0, 0.0)), batch((2.0, 1.0), (3.0, 2.0), name="t")]
    for batches in (whole, split):
        norm, logged, _ = gradient_norm(Pull(), batches)
        assert norm == pytest.approx(math.hypot(2, 1))
        assert_close(logged, torch.tensor([2.0, 1.0], dtype=logged.dtype))


def test_parts_add_up_and_are_asked_for_one_after_the_other() -> None:
    """Losses w . mean(x0) and 2 |w|^2: the gradient is mean(x0) + 4 w, weighed by samples."""
    point, freed = Point(), list[bool]()

    def parts(batch: Batch, rng: Rng) -> Iterator[Part]:
        first = (batch.x0.flatten(1) @ point.w).mean()
        yield first, {"first": first.detach(), "both": first.detach()}
        freed.append(point.w.grad is not None)  # the first has been differentiated by now
        second = 2 * point.w.square().sum()
        yield second, {"both": second.detach()}

    class InParts(Pull):
        def phases(self, step: int) -> Iterator[PhaseInParts]:  # pyright: ignore
            yield PhaseInParts("a", point, parts)

    optim, means = Optim(SGD_LIKE, point, total=1), dict[str, Means]()
    split = [batch((1.0, 0.0)), batch((2.0, 1.0), (3.0, 2.0), name="t")]
    assert run_step(InParts(), split, {"a": optim}, means, seed=5, step=0) is None
    values = means["a"].values()
    assert freed == [True, True]
    assert values["grad_norm"] == pytest.approx(math.hypot(2 + 12, 1 - 16))
    assert values["first"] == pytest.approx(2 * 3 - 4)
    assert values["loss"] == values["both"] == pytest.approx(2 * 3 - 4 + 2 * 25)


def test_each_phase_gets_its_own_stream_for_its_samples() -> None:
    method = Pull()
    run_step(method, [batch((1.0, 0.0))], optims_for(method), {}, seed=5, step=2)
    assert method.seen == [(5, 2, "a", ("s0",)), (5, 2, "b", ("s0",))]


def test_trap25_schedules_count_the_updates_of_their_phase(tmp_path: Path) -> None:
    cfg = OptimConfig(lr=1.0, warmup=2, schedule="cosine", betas=(0.0, 0.0))
    half = math.cos(math.pi / 4) / 2
    expected = [0.5, 1.0, 1.0, 0.5 + half, 0.5, 0.5 - half, 0]
    assert [cfg.rate(k, 6) for k in range(7)] == pytest.approx(expected)
    method = Pull()
    optims = optims_for(method, cfg, steps=9)
    assert (optims["a"].total, optims["b"].total) == (9, 3)
    with new_run(tmp_path / "r") as run:
        loop = LoopConfig(steps=9, log_every=3)
        train(method, lambda _: [batch((1.0, 1.0))], loop, run, optims, seed=0)
        logged = {(r["step"], r["phase"]): r for r in run.metrics()}
    assert [logged[s, "a"]["updates"] for s in (3, 6, 9)] == [3, 6, 9]
    assert [logged[s, "b"]["updates"] for s in (3, 6, 9)] == [1, 2, 3]
    assert logged[3, "b"]["lr"] == 1.0  # its second update ends the warm-up
    assert method.after == [0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8]


def test_rows_are_means_since_the_last_row(tmp_path: Path) -> None:
    method = Pull()
    with new_run(tmp_path / "r") as run:
        train(
            method, lambda s: [batch((float(s), float(s)))], LoopConfig(steps=5, log_every=2), run,
            optims_for(method), seed=0,
        )  # fmt: skip
        rows = [(r["step"], r["mean_x0"]) for r in run.metrics() if r["phase"] == "a"]
        costs = [r for r in run.metrics() if r["phase"] == "loop"]
    assert rows == [(2, 0.5), (4, 2.5), (5, 4.0)]
    for row in costs:
        assert row["cpu_seconds_per_step"] >= 0 and 0 <= row["seconds_per_step"] < 10
        assert 50 < row["peak_memory_mb"] < 100_000


def test_pauses_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"wall": 100.0, "cpu": 7.0}
    monkeypatch.setattr(stopwatch.time, "monotonic", lambda: clock["wall"])
    monkeypatch.setattr(stopwatch.time, "process_time", lambda: clock["cpu"])

    def wait(wall: float, cpu: float) -> None:
        clock["wall"] += wall
        clock["cpu"] += cpu

    watch = Stopwatch()
    wait(3, 2)
    with watch.paused():
        wait(50, 40)
    wait(1, 0.5)
    assert watch.lap() == Seconds(4, 2.5)
    wait(2, 1)
    assert watch.lap() == Seconds(2, 1)


def test_hooks_run_when_due_and_where_a_run_resumes(tmp_path: Path) -> None:
    method, called = Pull(), []
    hooks = [
        every(2, lambda s: called.append(("two", s)), at_start=True),
        every(3, lambda s: called.append(("three", s))),
    ]
    with new_run(tmp_path / "r") as run:
        for steps in (4, 6):
            train(
                method, lambda _: [batch((1.0, 1.0))], LoopConfig(steps=steps), run,
                optims_for(method), hooks, seed=0,
            )  # fmt: skip
    first = [("two", 0), ("two", 2), ("three", 3), ("two", 4)]
    assert called == [*first, ("two", 4), ("two", 6), ("three", 6)]
    with pytest.raises(ValueError, match="every n >= 1 steps, got 0"):
        every(0, print)


def test_the_health_of_ladd_is_logged(tmp_path: Path) -> None:
    game = Game(steps=4)
    with new_run(tmp_path / "r") as run:
        game.train(run)
        rows = {r["phase"]: r for r in run.metrics()}
    assert len(rows["heads"]["gap_by_head"]) == 2
    assert len(rows["heads"]["real_share_by_sigma"]) == 4
    assert rows["heads"]["grad_norm"] > 0 and rows["student"]["grad_norm"] > 0
    assert rows["heads"]["updates"] == 4 and rows["student"]["updates"] == 2
    assert "train 4/4" in game.said.getvalue()


def test_missing_optimizer_is_named() -> None:
    method = Pull()
    with pytest.raises(ValueError, match="phase 'b', but there are optimizers only for a"):
        optims = {"a": optims_for(method)["a"]}
        run_step(method, [batch((1.0, 1.0))], optims, {}, seed=0, step=2)


def test_loop_config_errors() -> None:
    with pytest.raises(ValueError, match=r"loop\.steps must be >= 1, got 0"):
        LoopConfig(steps=0)
