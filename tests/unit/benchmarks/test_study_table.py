"""From runs to tables, on invented results."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from benchmarks.study_judge import (
    References,
    Result,
    null,
    read_result,
    training_minutes,
    write_result,
)
from benchmarks.study_plan import plan
from benchmarks.study_records import RECORDS
from benchmarks.study_rows import NOTHING, Row, collapse, gather
from benchmarks.study_table import cells, plot

from fewstep.evaluate.measures import Measures
from fewstep.evaluate.metrics import draws
from fewstep.evaluate.statistics import Estimate
from fewstep.recipes.ladd import ladd_shapes

MADE = {"command": "x", "hardware": "y", "versions": {}, "date": "2026-01-01"}


def metrics(adherence: float, gap: float = 0.5, saturated: float = 0.02) -> dict[str, float]:
    return {"adherence": adherence, "kid_gap_closed": gap, "kid": 0.1, "layout_diversity": 0.7,
            "sharpness": 1.0, "saturated": saturated}  # fmt: skip


def result(variant: str, seed: int, adherence: float, gap: float = 0.5, **views) -> Result:
    return Result(variant, seed, 10.0 + seed, {"student": metrics(adherence, gap), **views})


def rows_of(study: str, results: list[Result]) -> dict[str, Row]:
    found = gather(plan(study, ladd_shapes()), results, few_adherence=0.6)
    return {row.variant.name: row for row in found}


def test_means_and_t_intervals_over_training_seeds() -> None:
    rows = rows_of("ablations", [result("default", s, a) for s, a in enumerate((0.7, 0.8, 0.9))])
    found = rows["default"].mean("adherence")
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert found.value == pytest.approx(0.8)
    assert (found.low, found.high) == pytest.approx((0.8 - half, 0.8 + half), abs=1e-6)
    assert found.n_runs == 3


def test_differences_are_paired_by_training_seed() -> None:
    results = [result("default", s, a) for s, a in ((0, 0.5), (1, 0.7), (2, 0.9))]
    # Two seeds in another order, and one that the default lacks.
    results += [result("loss_softplus", s, a) for s, a in ((2, 0.92), (0, 0.54), (5, 0.1))]
    rows = rows_of("ablations", results)
    found = rows["loss_softplus"].minus(rows["default"], "adherence")
    half = 12.706205 * np.std([0.04, 0.02], ddof=1) / math.sqrt(2)
    assert found.value == pytest.approx(0.03)
    assert found.high - found.value == pytest.approx(half, abs=1e-6)
    assert found.n_runs == 2


def test_ema_off_reads_the_raw_student_of_the_default() -> None:
    rows = rows_of("ablations", [result("default", 0, 0.9, raw=metrics(0.4))])
    assert rows["ema_off"].mean("adherence").value == 0.4
    assert rows["default"].mean("adherence").value == 0.9
    assert set(rows) == {"default", "ema_off"}


def test_what_counts_as_collapsed() -> None:
    run = result("default", 0, 0.9)
    assert collapse(run, metrics(0.41), 0.6) == ""
    assert "0.390 against 0.600" in collapse(run, metrics(0.39), 0.6)
    assert "51 %" in collapse(run, metrics(0.9, saturated=0.51), 0.6)
    assert collapse(run, metrics(0.9, saturated=0.49), 0.6) == ""
    assert collapse(replace(run, failed="loss was nan"), None, 0.6) == "loss was nan"
    assert "not finite" in collapse(run, None, 0.6)


TEACHER = {
    "full": {"adherence": Estimate(0.95, 0.9, 1, 9, 2),
             "layout_diversity": Estimate(1.0, 0.9, 1.1, 9, 2)},
    "few": {"adherence": Estimate(0.6, 0.5, 0.7, 9, 2),
            "layout_diversity": Estimate(1.1, 0.9, 1.3, 9, 2)},
}  # fmt: skip


GAPS = (0.8, 0.85, 0.9, 0.95)


def seeds_claims(results: list[Result]) -> dict:
    rows = list(rows_of("seeds", results).values())
    return {c.id.removeprefix("spine."): c for c in RECORDS["seeds"](rows, TEACHER, MADE)}


def test_records_of_the_seeds() -> None:
    found = seeds_claims([result("default", s, 0.94, gap) for s, gap in enumerate(GAPS)])
    gap, drop = found["ladd_gap_closed"], found["ladd_adherence_drop"]
    assert (gap.value, gap.n, gap.met) == (pytest.approx(0.875), 4, True)
    assert (drop.value, drop.n, drop.met) == (pytest.approx(0.01), 4, True)
    assert found["ladd_collapsed_runs"].met is True
    assert found["ladd_minutes"].value == pytest.approx((10 + 11 + 12 + 13) / 4)
    assert found["ladd_layout_diversity"].value == pytest.approx(0.7)


def test_a_run_without_pictures_nulls_the_claims_and_is_named() -> None:
    results = [result("default", s, 0.94, gap) for s, gap in enumerate(GAPS)]
    failed = Result("default", 4, 3.0, {}, failed="the loss was not finite")
    found = seeds_claims([*results, failed])
    for name in ("ladd_gap_closed", "ladd_adherence_drop", "ladd_layout_diversity"):
        record = found[name]
        assert (record.value, record.low, record.met, record.n) == (None, None, None, 5), name
        assert "training seed 4: the loss was not finite" in record.note
    gone = found["ladd_collapsed_runs"]
    assert (gone.value, gone.n, gone.met) == (1, 5, False)
    assert found["ladd_minutes"].value == pytest.approx((10 + 11 + 12 + 13 + 3) / 5)


def test_a_number_that_one_run_lacks_nulls_its_claim_alone() -> None:
    results = [result("default", s, 0.94, gap) for s, gap in enumerate((*GAPS, math.nan))]
    found = seeds_claims(results)
    assert found["ladd_gap_closed"].value is None
    assert "training seed 4: its kid gap closed is not defined" in found["ladd_gap_closed"].note
    assert found["ladd_adherence_drop"].value == pytest.approx(0.01)


def test_a_cell_says_how_many_runs_it_stands_on() -> None:
    results = [result("default", s, 0.9, gap) for s, gap in enumerate((0.5, 0.7))]
    failed = Result("default", 2, 3.0, {}, failed="nan")
    (row,) = rows_of("seeds", [*results, failed]).values()
    assert all(text.endswith(", 2 of 3 runs") for text in cells(row.mean, row.runs))
    (row,) = rows_of("seeds", results).values()
    assert not any("runs" in text for text in cells(row.mean, row.runs))
    assert cells(lambda m: NOTHING, 3)[0] == "-, 0 of 3 runs"


def test_record_of_the_wrong_convention() -> None:
    results = [result("default", s, 0.9, 0.9) for s in range(3)]
    results += [result("wrong", s, 0.1, -0.4, own=metrics(0.0)) for s in range(3)]
    rows = list(rows_of("convention", results).values())
    (found,) = RECORDS["convention"](rows, TEACHER, MADE)
    assert (found.id, found.value) == ("spine.wrong_convention_gap_closed", pytest.approx(-0.4))
    assert "close 0.900" in found.note and "3 of 3 collapsed" in found.note


def test_a_gap_that_is_not_there_is_null_with_a_reason() -> None:
    rows = list(rows_of("seeds", [result("default", 0, 0.9, math.nan)]).values())
    found = {c.id: c for c in RECORDS["seeds"](rows, TEACHER, MADE)}
    assert found["spine.ladd_gap_closed"].value is None
    assert "no gap" in found["spine.ladd_gap_closed"].note


def invented(seed: int, offset: float) -> Measures:
    rng = np.random.default_rng(seed)
    return Measures(
        prompts=tuple(map(str, range(10))), n_seeds=2,
        features={"shapes": rng.normal(offset, 1, (20, 4))},
        adherence={"all": rng.random(20) < 0.5}, spreads={"layout": rng.random(10)},
        pictures={"sharpness": rng.random(20), "high_frequency": rng.random(20)},
    )  # fmt: skip


def test_share_of_the_gap() -> None:
    truth, full, few, ours = (invented(i, x) for i, x in enumerate((0, 0.2, 2, 1)))
    references = References(truth, full, few)
    ones = np.ones((1, 10))
    kid = {k: draws(m, truth, ones)["kid"][0] for k, m in (("f", full), ("s", few), ("o", ours))}
    found = references.values(ours)
    assert found["kid"] == kid["o"]
    assert found["kid_gap_closed"] == pytest.approx((kid["s"] - kid["o"]) / (kid["s"] - kid["f"]))
    assert references.values(few)["kid_gap_closed"] == pytest.approx(0)
    assert references.values(full)["kid_gap_closed"] == pytest.approx(1)
    assert math.isnan(References(truth, few, full).values(ours)["kid_gap_closed"])


def test_minutes_count_steps_and_not_rows() -> None:
    rows = [
        {"step": 10, "phase": "heads", "loss": 1.0},
        {"step": 10, "phase": "loop", "seconds_per_step": 3.0},
        {"step": 40, "phase": "loop", "seconds_per_step": 1.0},
    ]
    assert training_minutes(rows) == pytest.approx(1.0)


def test_results_survive_the_file(tmp_path) -> None:
    run = result("n1", 2, 0.5, raw=metrics(0.3, math.nan))
    path = tmp_path / "result.json"
    write_result(path, {"prompts": 3}, run)
    back = read_result(path)
    assert math.isnan(back.views["raw"]["kid_gap_closed"])
    assert null(back.views) == null(dict(run.views)) and back.seed == 2 and back.failed is None


def test_the_figure_has_every_run_and_the_teacher(tmp_path) -> None:
    study = plan("ablations", ladd_shapes())
    results = [result(name, seed, 0.5) for name in ("default", "n3") for seed in (0, 1)]
    rows = gather(study, results, few_adherence=0.6)
    found = {key: Estimate(0.5, 0.4, 0.6, 8, 2) for key in ("kid", "adherence")}
    plot(study, rows, {"full": found, "few": found}, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
