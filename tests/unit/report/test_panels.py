"""Which series stand in which plot, and what is said about their health."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from tests.unit.report.drawing import series

from fewstep.report.collect import Series, Training
from fewstep.report.health import GAP, balanced, beside, judged, signs
from fewstep.report.panels import of_one, of_several


def trained(
    found: Mapping[str, Series], begun: float | None = None, skipped: int | None = None
) -> Training:
    return Training(
        series=found, begun=begun, steps=10, seconds=None, skipped=skipped, not_finite=0,
        cpu_seconds=None, gpu_seconds=None, peak_memory_mb=None,
    )  # fmt: skip


def test_accuracy_by_sigma_divides_averages_and_leaves_empty_bins_out() -> None:
    steps = np.arange(4.0)
    share = np.array([[0.75, 0.25, 0], [0.25, 0.75, 0], [0.5, 0.5, 0], [0.5, 0.5, 0]])
    correct = share * np.array([0.9, 0.6, 0.0])
    found = {
        "heads/real_correct_by_sigma": Series(steps, correct),
        "heads/real_share_by_sigma": Series(steps, share),
    }
    (panel,), rest = of_one(trained(found))
    assert panel.title == "Real accuracy by sigma" and panel.share and rest == []
    values = [line.series.values for line in panel.lines]
    np.testing.assert_allclose(values[0], 0.9)
    np.testing.assert_allclose(values[1], 0.6)
    assert np.isnan(values[2]).all()
    assert [line.label for line in panel.lines] == ["0 to 0.33", "0.33 to 0.67", "0.67 to 1"]


def test_the_gap_is_judged_only_once_the_student_has_begun() -> None:
    gap = series(0.5, 0.5, 0.5)
    (before,), _ = of_one(trained({"heads/gap": gap}))
    assert before.bands == () and before.title == "Gap of the heads' logits"
    (after,), _ = of_one(trained({"heads/gap": gap}, begun=2.0))
    assert after.bands == GAP and after.bands_from == 2.0
    (both,), _ = of_several(
        {"a": trained({"heads/gap": gap}, begun=1.0), "b": trained({"heads/gap": gap}, begun=2.0)}
    )
    assert both.bands_from == 2.0 and [line.label for line in both.lines] == ["a", "b"]


def test_runs_keep_their_colour_where_another_run_has_no_such_series() -> None:
    with_loss, without = trained({"heads/loss": series(1.0)}), trained({"heads/gap": series(1.0)})
    shown, rest = of_several({"a": without, "b": with_loss})
    loss = next(panel for panel in shown if panel.title == "Heads: loss")
    assert [(line.label, line.colour) for line in loss.lines] == [("b", "var(--k1)")]
    assert rest == []


def test_health_is_read_from_the_last_tenth() -> None:
    gap = [0.5] * 18

    def word(*last: float) -> str:
        return judged("gap", series(*gap, *last), GAP).word

    assert word(0.0, 0.01) == "dead" and word(-2.0, -1.0) == "dead"
    assert word(0.02, 0.02) == "healthy" and word(0.1, 0.3) == "healthy"
    assert word(1.1, 1.3) == "" and word(1.5, 2.0) == "heads win"
    assert word(math.nan, math.inf) == "not finite"


def test_signs_tell_what_was_not_finite_and_only_what_is_known() -> None:
    logged = {"heads/gap": series(0.2), "loop/skipped": series(3.0)}
    found = signs(trained(logged, begun=1.0, skipped=3))
    assert [(sign.word, sign.state) for sign in found] == [
        ("healthy", "good"), ("not finite", "bad"), ("all finite", "good"),
    ]  # fmt: skip
    assert [sign.value for sign in found] == ["0.2", "3", "0"]
    # the student has not begun, and nobody counted what was skipped: that is not 0
    (fewer,) = signs(trained({"heads/gap": series(0.2)}))
    assert fewer.name == "logged values that are not finite"
    assert [own for _, own in beside([found, [fewer]])] == [
        [found[0], None], [found[1], None], [found[2], fewer],
    ]  # fmt: skip


def test_accuracy_is_the_mean_of_real_and_fake() -> None:
    both = {"heads/real_accuracy": series(1.0, 0.8), "heads/fake_accuracy": series(0.0, 0.4)}
    found = balanced(both)
    assert found is not None
    np.testing.assert_allclose(found.values[:, 0], [0.5, 0.6])
    assert balanced({"heads/real_accuracy": series(1.0)}) is None
    assert balanced({**both, "heads/fake_accuracy": series(0.0, 0.4, start=1)}) is None
