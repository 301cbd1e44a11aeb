"""What a watch measures, of real runs: against the same numbers computed another way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.study_plan import changed
from rich.console import Console

from fewstep.cli.exporting import chosen
from fewstep.errors import UserError
from fewstep.evaluate import diversity, quality
from fewstep.evaluate.gallery import eight_bit
from fewstep.evaluate.generate import generate
from fewstep.experiment.builder import Built, build
from fewstep.experiment.codec import to_yaml
from fewstep.experiment.config import Experiment
from fewstep.experiment.probes import Probes
from fewstep.experiment.strips import read_strip
from fewstep.families.base import Backbone
from fewstep.recipes import RECIPES
from fewstep.runs import Run
from fewstep.train.alarms import Policy
from fewstep.train.loop import Outcome, train
from fewstep.train.watch import COURSE, EVIDENCE, RECORD, read_looks

FEW = {
    "data.samples.prompts": 8, "data.samples.steps": 2, "data.batch_size": 4, "loop.steps": 4,
    "loop.checkpoint_every": 2, "loop.log_every": 2, "method.heads_first": 0,
    "sampling.every": 100, "sampling.steps": 2, "method.student_sigmas": (1.0, 0.75),
    "method.student_probs": (0.5, 0.5), "method.warmup_probs": (0.5, 0.5),
    "optim.student.warmup": 0, "watch.every": 2, "watch.seeds": 3,
}  # fmt: skip


def experiment(cache: Path, **more: object) -> Experiment:
    return changed(RECIPES["ladd_shapes_demo"](), {**FEW, "data.cache": str(cache), **more})


def play(given: Experiment, directory: Path) -> tuple[Built, Outcome]:
    built = build(given, directory)
    with Run.create(directory, to_yaml(given)) as run:
        outcome = train(
            built.method, built.batches, given.loop, run, built.optims, seed=given.seed,
            console=Console(quiet=True), watch=built.watch,
        )  # fmt: skip
    return built, outcome


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp() / "probes"


@pytest.mark.slow
def test_a_look_is_what_its_pictures_and_weights_say(cache: Path, tmp_path: Path) -> None:
    built, outcome = play(experiment(cache), tmp_path / "a")
    assert outcome.finished and outcome.why is None
    looks = {row["step"]: row for row in read_looks(tmp_path / "a")}
    assert list(looks) == [0, 2, 4]
    first, last = looks[0]["values"], looks[4]["values"]
    assert first["moved"] == 0 and abs(first["away"]) < 1e-9 and "behind" not in first

    watch = built.watch
    assert watch is not None and isinstance(watch.probe, Probes)
    spec, exported = watch.probe.spec, built.method.exported()
    assert len(spec.prompts) == 8 and spec.seeds == (0, 1, 2) and len(spec.sigmas) == 3
    assert isinstance(exported, Backbone)
    images = eight_bit(generate(built.family, exported, spec, batch_size=8))
    for name, of in (("detail", quality.high_frequency), ("saturation", quality.saturation)):
        assert last[name] == pytest.approx(of(images).mean(), rel=1e-6)
    assert built.world is not None
    features = built.world.features(images)
    apart = diversity.cosine_distance(features, np.repeat(np.arange(8), 3), 8)
    assert last["seeds"] == pytest.approx(apart.mean(), rel=1e-6)
    shown = read_strip(tmp_path / "a" / "samples" / "health" / "step_000000.png", 24)
    before = eight_bit(generate(built.family, built.family.backbone, spec, batch_size=8))
    assert torch.equal(shown, before)

    start = dict(built.teacher.backbone.named_parameters())
    student, average = built.method.modules["student"], exported
    own, other = dict(student.named_parameters()), dict(average.named_parameters())
    way = torch.cat([(own[name] - start[name]).flatten() for name in own])
    whole = torch.cat([start[name].flatten() for name in own])
    lag = torch.cat([(own[name] - other[name]).flatten() for name in own])
    assert last["moved"] == pytest.approx(float(way.norm() / whole.norm()), rel=1e-4)
    assert last["behind"] == pytest.approx(float(lag.norm() / way.norm()), rel=1e-4)

    x0 = torch.cat([batch.x0 for step in range(6) for batch in built.batches(step)])[:24]
    real = eight_bit(built.family.decode(x0).float().clamp(0, 1))
    assert looks[0]["beside"]["contrast"] == pytest.approx(quality.contrast(real).mean(), rel=1e-6)


@pytest.mark.slow
def test_looking_changes_nothing_and_lost_pictures_are_drawn_again(
    cache: Path, tmp_path: Path
) -> None:
    quiet = {f"watch.policy.{name}": "evidence" for name in vars(Policy())}
    watched, _ = play(experiment(cache, **quiet), tmp_path / "a")
    plain, _ = play(experiment(cache, **quiet, **{"watch.every": 0}), tmp_path / "b")
    for name, module in watched.method.modules.items():
        other = plain.method.modules[name].state_dict()
        for key, value in module.state_dict().items():
            assert torch.equal(value, other[key]), f"{name}.{key}"
    watch = watched.watch
    assert watch is not None and isinstance(watch.probe, Probes)
    strip, looks = watch.probe.first.read_bytes(), read_looks(tmp_path / "a")
    watch.probe.first.unlink()
    assert watch.probe(4)["away"] == looks[-1]["values"]["away"]
    assert watch.probe.first.read_bytes() == strip


@pytest.mark.slow
def test_bands_are_learnt_from_as_many_samples_however_small_a_batch(
    cache: Path, tmp_path: Path
) -> None:
    small = build(experiment(cache, **{"data.micro_batch": 2}), tmp_path / "a")
    large = build(experiment(cache), tmp_path / "b")
    one, two = (built.watch.probe.beside() for built in (small, large) if built.watch)
    assert one == pytest.approx(two, rel=1e-4)  # the same 24 samples in another order of sums


@pytest.mark.slow
def test_a_broken_student_gives_way_to_the_last_healthy_one(cache: Path, tmp_path: Path) -> None:
    """A rate that breaks it from the third step on; the end of the run is too near to go back."""
    given = experiment(cache, **{"optim.student.lr": 1.0, "method.heads_first": 2,
                                 "watch.patience": 1, "loop.steps": 4})  # fmt: skip
    built, outcome = play(given, tmp_path / "a")
    assert outcome.weights == 2 and outcome.why is not None
    assert outcome.why.startswith("the alarm far, looks") and "at its last step" in outcome.why
    course = json.loads((tmp_path / "a" / COURSE).read_bytes())
    assert {alarm["name"] for alarm in course["alarms"]} >= {"far", "looks"}
    assert (tmp_path / "a" / EVIDENCE / "step_00000004" / "pictures.png").is_file()
    start = dict(built.teacher.backbone.named_parameters())
    for name, p in built.method.modules["student"].named_parameters():
        assert torch.equal(p, start[name]), name
    with Run.open(tmp_path / "a") as run, pytest.raises(UserError, match="had not moved, so there"):
        chosen(run, None, given, Console(quiet=True))


@pytest.mark.slow
def test_what_is_exported_is_what_the_watch_ended_with(cache: Path, tmp_path: Path) -> None:
    given = experiment(cache)
    play(given, tmp_path / "a")
    with Run.open(tmp_path / "a") as run:
        assert chosen(run, None, given, Console(quiet=True)).name == "step_00000004"
        rows = read_looks(run.directory)
        rows[-1]["values"]["away"] = None  # as of pictures that are not finite
        lines = [json.dumps(row) + "\n" for row in rows]
        (run.directory / RECORD).write_text("".join(lines))
        assert chosen(run, None, given, Console(quiet=True)).name == "healthy_00000002"


def test_a_gauge_and_a_watch_do_not_both_go_back() -> None:
    recipe = RECIPES["dopsd_shapes"]()
    with pytest.raises(UserError, match="goes back and lowers learning rates by a rule of its"):
        changed(recipe, {"retention.every": 50, "watch.policy.far": "back"})
    changed(recipe, {"retention.every": 50})


@pytest.mark.slow
def test_pictures_that_are_not_finite_are_no_black_ones(cache: Path, tmp_path: Path) -> None:
    built = build(experiment(cache), tmp_path)
    assert built.watch is not None
    probe = built.watch.probe
    first = probe(0)
    assert all(np.isfinite(value) for value in first.values())
    exported = built.method.exported()
    with torch.no_grad():
        next(p for p in reversed(list(exported.parameters()))).fill_(torch.nan)
    found = probe(2)
    assert [name for name, value in found.items() if np.isnan(value)] == [
        "detail", "sharpness", "saturation", "contrast", "scale", "seeds", "prompts", "away",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_short_file_of_prompts_leaves_out_what_needs_more(cache: Path, tmp_path: Path) -> None:
    file, seen = tmp_path / "prompts.txt", list[set[str]]()
    for n in (1, 3):
        file.write_text("\n".join(["a red circle", "two blue squares", "a green triangle"][:n]))
        given = experiment(cache, **{
            "data.prompts_file": str(file), "sampling.prompts": 1, "data.samples.prompts": 1,
            "world": "none", "data.samples.picture_share": 0.0,
        })  # fmt: skip
        built = build(given, tmp_path / str(n))
        assert built.watch is not None
        seen.append(set(built.watch.probe(0)))
    assert seen[1] - seen[0] == {"prompts", "seeds"} and "away" not in seen[1]
