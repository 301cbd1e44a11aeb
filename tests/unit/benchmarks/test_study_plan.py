"""What the LADD studies train."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.common import part
from benchmarks.study_plan import (
    DEFAULT,
    STUDIES,
    Study,
    ablations,
    at_budget,
    batch_overrides,
    changed,
    plan,
    share_of,
)

from fewstep.errors import UserError
from fewstep.experiment.codec import difference, flat, to_dict
from fewstep.experiment.config import Experiment
from fewstep.recipes.ladd import ladd_shapes

BASE = ladd_shapes()


@pytest.fixture(params=STUDIES)
def study(request: pytest.FixtureRequest) -> Study:
    return plan(request.param, BASE)


def test_every_job_is_an_experiment_that_differs_by_its_overrides_alone(study: Study) -> None:
    for job in study.jobs():
        found = flat(to_dict(job.experiment))
        wanted = {**flat(to_dict(study.base)), **job.variant.overrides, "seed": job.seed}
        assert found == wanted, job.variant.name
        if job.variant.name != DEFAULT and not job.variant.wrong:
            assert difference(study.base, replace(job.experiment, seed=study.base.seed))


def test_names_and_folders_are_distinct_and_the_default_comes_first(study: Study) -> None:
    names = [v.name for v in study.variants]
    assert len(set(names)) == len(names) and names[0] == DEFAULT
    folders = [job.directory(Path("runs")) for job in study.jobs()]
    assert len(set(folders)) == len(folders)


def test_what_is_judged_another_way_has_runs_to_judge(study: Study) -> None:
    trained = {job.variant.name for job in study.jobs()}
    for variant in study.variants:
        assert (variant.trained_as or variant.name) in trained
        assert (variant.view == "student") == (variant.trained_as is None)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_parts_hold_each_job_once(study: Study, count: int) -> None:
    jobs = study.jobs()
    parts = [share_of(jobs, (i, count)) for i in range(count)]
    assert sorted(jobs.index(j) for own in parts for j in own) == list(range(len(jobs)))


def test_sizes_of_the_studies() -> None:
    assert [len(plan(name, BASE).jobs()) for name in ("seeds", "convention")] == [5, 6]
    assert plan("seeds", BASE).base == BASE
    reduced = plan("ablations", BASE)
    assert (reduced.base.loop.steps, len(reduced.seeds)) == (300, 3)
    assert len(plan("ablations", BASE, steps=100, n=2).seeds) == 2


def test_convention_shares_the_default_runs_of_the_ablations() -> None:
    first, second = plan("ablations", BASE).jobs()[0], plan("convention", BASE).jobs()[0]
    assert first.directory(Path("r")) == second.directory(Path("r"))
    assert first.experiment == second.experiment


def levels(base: Experiment) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for variant in ablations(base)[1:]:
        found.setdefault(variant.question, []).append(variant.level)
    return found


def test_the_ablations_ask_everything_but_what_the_default_is() -> None:
    base = changed(
        BASE,
        {
            "method.student_every": 3, "method.renoise_mean": 1.0, "data.batch_size": 32,
            "method.loss": "hinge", "method.misaligned_weight": 0.0, "method.ema_decay": 0.99,
        },
    )  # fmt: skip
    assert levels(base) == {
        "N": ["1", "2", "5"],
        "re-noise m": ["-0.5", "0", "0.5"],
        "batch": ["1 (softplus)", "4"],
        "loss": ["softplus"],
        "misaligned pairs": ["weight 0.5"],
        "EMA": ["off"],
    }
    other = changed(base, {"method.loss": "softplus", "method.misaligned_weight": 1.0,
                           "method.student_every": 5, "method.ema_decay": 0.0})  # fmt: skip
    found = levels(other)
    assert found["loss"] == ["hinge"] and found["misaligned pairs"] == ["off"]
    assert found["N"] == ["1", "2", "3"] and found["EMA"] == ["0.99"]
    assert found["batch"][0] == "1"
    for variant in ablations(other):  # every one of them can be built
        changed(other, variant.overrides)


def test_another_batch_sees_as_many_samples() -> None:
    base = at_budget(changed(BASE, {"data.batch_size": 32, "optim.student.warmup": 20}), 640)
    for batch in (1, 2, 4, 16):
        made = changed(base, batch_overrides(base, batch))
        assert made.data.batch_size * made.loop.steps == 32 * 640
        assert made.data.batch_size * made.method.warmup_steps == 32 * base.method.warmup_steps
        assert made.data.batch_size * made.sampling.every == 32 * base.sampling.every
        assert made.optim.student.warmup == base.optim.student.warmup * 32 // batch
        for phase in ("heads", "student"):
            ratio = getattr(made.optim, phase).lr / getattr(base.optim, phase).lr
            assert ratio == pytest.approx((batch / 32) ** 0.5)
        horizon = batch / (1 - made.method.ema_decay)
        assert horizon == pytest.approx(32 / (1 - base.method.ema_decay))
        assert made.method.loss == ("softplus" if batch == 1 else base.method.loss)
    assert batch_overrides(base, 32) == {}


def test_a_reduced_budget_keeps_the_share_of_the_warm_up() -> None:
    base = changed(BASE, {"loop.steps": 3000, "method.warmup_steps": 300})
    found = at_budget(base, 600)
    assert (found.loop.steps, found.method.warmup_steps) == (600, 60)
    assert found.method.heads_first == base.method.heads_first
    assert at_budget(base, None) == base


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match=r"no field 'method.student_evry'.*student_every"):
        changed(BASE, {"method.student_evry": 2})
    with pytest.raises(UserError, match="student_every must be >= 1"):
        changed(BASE, {"method.student_every": 0})
    with pytest.raises(UserError, match=r"no study 'ablation'.*ablations"):
        plan("ablation", BASE)
    assert part("1/2") == (1, 2)
    for wrong in ("2/2", "1", "a/b", "-1/2"):
        with pytest.raises(ValueError, match="part reads"):
            part(wrong)
