"""The D-OPSD studies end to end on a tiny model: folders, runs, interruption, tables, records."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from benchmarks import dopsd
from benchmarks.dopsd_arms import MAIN, recipe_on
from benchmarks.dopsd_concepts import pictures, taught, write_folder
from benchmarks.dopsd_costs import passes_of
from benchmarks.dopsd_judge import VIEWS, Judge
from benchmarks.dopsd_memory import at_states, growth, measure
from benchmarks.dopsd_pictures import PROMPTS, draw, drawings
from benchmarks.dopsd_plan import Task, plan
from benchmarks.dopsd_rows import gather
from benchmarks.picture_rows import APART, GAP, LABEL, LINE, MARGIN, TILE
from benchmarks.study_judge import read_result
from benchmarks.study_plan import changed
from PIL import Image
from tests.tiny import tiny_zimage

from fewstep import claims
from fewstep.errors import UserError
from fewstep.evaluate.generate import generate
from fewstep.experiment.codec import difference
from fewstep.experiment.models import load_family
from fewstep.methods.dopsd import DOPSDConfig
from fewstep.recipes import RECIPES
from fewstep.runs import read_metrics
from fewstep.shapes import Pixels
from fewstep.worlds.shapes.world import Shapes

TINY = ["data.samples.prompts=4", "sampling.every=9", "sampling.prompts=1",
        "loop.checkpoint_every=1"]  # fmt: skip
WORDS = ["--engine", "plain", "--prompts", "8", "--seeds", "2", "--novel", "2", "--steps", "2",
         "--training-seeds", "1", "--concepts", "outline5", "hue4"]  # fmt: skip
AT_16 = ("dopsd_shapes", "sft_tune_shapes", "dreambooth_shapes", "pso_shapes", "offpolicy_shapes")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options of every study, with a student that is there."""
    base = tmp_path_factory.mktemp("dopsd")
    family = tiny_zimage()
    family.save(base / "run" / "model", family.backbone, "renoise")
    places = [f"--{name}={base / name}" for name in ("results", "docs", "work")]
    student = ["--student", str(base / "run" / "model")]
    return [*WORDS, *places, *student, "--set", *TINY, f"data.cache={base / 'cache'}"]


def place(words: list[str], name: str) -> Path:
    [found] = [word for word in words if word.startswith(f"--{name}=")]
    return Path(found.partition("=")[2])


def planned(words: list[str], study: str) -> list[Task]:
    args = dopsd.parser().parse_args(["plan", study, *words])
    return dopsd.tasks_of(args, dopsd.recipes_of(args))


def test_recipes_have_one_budget() -> None:
    found = {name: passes_of(RECIPES[name]()).graded for name in AT_16}
    assert set(found.values()) == {16}, found
    assert {RECIPES[name]().loop.steps for name in AT_16} == {RECIPES[AT_16[0]]().loop.steps}


@pytest.mark.slow
def test_arms_ask_what_the_issue_asks(words: list[str]) -> None:
    tasks = planned(words, "ablations")
    arms = {task.arm.name: task.arm for task in tasks}
    assert arms[MAIN].question == "recipe" and len(arms) == len(tasks) / 2
    decays = [a.base.method.teacher.decay for a in arms.values()
              if isinstance(a.base.method, DOPSDConfig) and a.question == "teacher"]  # fmt: skip
    assert decays == [0.0, 0.9, 0.99, 0.999, 0.9999, None]
    main = arms[MAIN].base
    for name, lines in {
        "form_mu": 1, "frozen": 1, "visits1": 1, "words": 2, "untied": 2, "levels8": 2,
        "captions": 1, "blocks": 3,
    }.items():  # fmt: skip
        assert len(difference(main, arms[name].base)) == lines, name
    assert len(arms["levels8"].base.method.student_sigmas) == 8
    assert arms["full"].base.adapter is None and arms["lora"].base.adapter.kind == "lora"
    untied, off = arms["untied"].base, arms["off_teacher"].base
    assert off.data == untied.data and off.method.visits == untied.method.visits == 2
    assert arms["captions"].base.data.folder.prompts is None
    assert arms["blocks"].base.adapter.targets == ("attention", "feed_forward")
    args = dopsd.parser().parse_args(["plan", "methods", *words])
    of = dopsd.recipes_of(args)
    assert of("sft_tune_shapes").sampling.sampler == "renoise"
    both = plan("methods", of, "a.safetensors", Path("p"), seeds=3)
    assert len(both) == len(set(both)) == 8 * 7 * 3
    fewer = plan("methods", of, "a.safetensors", Path("p"), seeds=3, others=1)
    assert fewer[: 8 * 7] == both[: 8 * 7] and len(fewer) == 8 * 7 + 2 * 7
    assert {(t.arm.name, t.seed) for t in fewer[8 * 7 :]} == {(MAIN, 1), (MAIN, 2)}
    shared = {t.directory(Path()) for t in both} & {t.directory(Path()) for t in tasks}
    assert {path.name for path in shared} == {
        f"{arm}_{concept}_0" for arm in (MAIN, "captions") for concept in ("hue4", "outline5")
    }
    spread = plan("ablations", of, "a.safetensors", Path("p"), seeds=3)
    assert [(t.taught.name, t.seed) for t in spread if t.arm.name == "lora"] == [
        ("hue4", 0), ("hue6", 1), ("outline5", 2), ("outline7", 0), ("both7", 1), ("both9", 2),
        ("style1", 0),
    ]  # fmt: skip
    assert {t.taught.name for t in spread[: len(arms)]} == {"hue4"}
    assert len(set(spread)) == len(spread) == 7 * len(arms)
    with pytest.raises(UserError, match="--other-seeds"):
        planned([*words, "--other-seeds", "1"], "ablations")
    other = recipe_on(args.student, 8, None, {}, {})("pso_shapes")
    assert len(other.method.student_sigmas) == 8 and sum(other.method.student_probs) == 1


@pytest.mark.slow
def test_from_pictures_to_records(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    work, results, docs = (place(words, name) for name in ("work", "results", "docs"))
    assert dopsd.main(["table", "methods", *words]) == 2
    assert dopsd.main(["run", "teacher", *words]) == 0
    [stated] = claims.read(results / "dopsd.json")
    teacher = json.loads((results / "tables" / "dopsd_teacher.json").read_text())["rows"]
    mean = sum(row["in context"]["success"] for row in teacher.values()) / 2
    assert stated.id == "dopsd.teacher_concept_success" and stated.value == pytest.approx(mean)

    # jobs of a part are done once, and an interrupted one goes on
    assert dopsd.main(["run", "methods", *words, "--part", "0/16"]) == 0
    [run] = work.glob("dopsd/*/2_steps/dopsd_outline5_0")
    assert (work / "dopsd" / "pictures" / "outline5" / "0.txt").read_text().startswith("a [V] on")
    for path in (*run.glob("result-*.json"), run / "adapter.safetensors"):
        path.unlink()
    shutil.rmtree(run / "model")
    shutil.rmtree(max((run / "checkpoints").glob("step_*2")))
    capsys.readouterr()
    assert dopsd.main(["run", "methods", *words, "--part", "0/16"]) == 0
    said = capsys.readouterr().out
    assert "resumed at step 1" in said and "drawing" not in said  # the same weights as before
    assert {row["step"] for row in read_metrics(run)} == {1, 2}
    assert dopsd.main(["run", "methods", *words, "--part", "0/16"]) == 0
    assert "job 1" not in capsys.readouterr().out

    assert dopsd.main(["table", "methods", *words]) == 0
    assert "1 of 16 jobs" in capsys.readouterr().out
    assert len(claims.read(results / "dopsd.json")) == 1  # records want every job
    table = json.loads((results / "tables" / "dopsd_methods.json").read_text())
    [row] = table["rows"]
    assert row["passes"] == {"graded": 16.0, "free": pytest.approx(80 / 3)} and row["name"] == MAIN
    assert table["teacher"]["outline5"] == teacher["outline5"]["in context"]["success"]
    [result] = run.glob("result-*.json")
    views = json.loads(result.read_text())["views"]
    assert row["figures"]["few.kid_change"]["value"] == views["few"]["kid_change"]
    assert views["few"]["success"] <= views["few"]["right"]
    assert (docs / "figures" / "dopsd_methods.png").read_bytes().startswith(b"\x89PNG")
    # first come pictures of the one concept that has a run: truth, two ways before, the run
    [shown] = (docs / "figures").glob("dopsd_methods_pictures_*.png")
    assert shown.read_bytes().startswith(b"\x89PNG") and shown.stem.endswith("_outline5")
    with Image.open(shown) as sheet:
        width, height = (2 * MARGIN + 4 * (TILE + GAP) + more for more in (LABEL + APART, 6 * LINE))
        assert sheet.size == (width, height)  # four rows below a prompt of four lines
    page = (docs / "dopsd_methods.md").read_text()
    assert f"](figures/{shown.name})" in page[: page.index("| runs |")]

    # another configuration of a run that is there is named, not mixed in
    assert dopsd.main(["run", "methods", *words, "method.tether_delta=0.1", "--part", "0/16"]) == 2
    assert "tether_delta" in capsys.readouterr().err


@pytest.mark.slow
def test_pictures_that_are_shown_are_those_that_are_judged(words: list[str]) -> None:
    args = dopsd.parser().parse_args(["table", "methods", *words, "--novel", "9"])
    judge, [one] = Judge(args, dopsd.recipes_of(args)("dopsd_shapes")), taught(Shapes(), ["hue4"])
    student, said = judge.student, tuple(map(one.said, judge.texts(one)))
    drawn = draw(one, student, judge)
    for view in VIEWS:
        judged = generate(student, student.backbone, judge.spec(student, view, said))
        torch.testing.assert_close(drawn[view], judged[::2][: PROMPTS[view]])
    beside = draw(one, student, judge, pictures(judge.world, one)[:1])
    kept: list[Pixels] = []
    judge.judged = lambda one, keys, draw: kept.append(draw()) or {}
    judge.in_context(one, student)
    torch.testing.assert_close(beside["few"], kept[0][::2][:8])
    assert not torch.allclose(beside["few"], drawn["few"], atol=1e-2)


@pytest.mark.slow
def test_the_rows_of_the_pictures_are_the_models_of_their_names(words: list[str]) -> None:
    assert dopsd.main(["run", "methods", *words, "--part", "0/16"]) == 0  # it may be there
    args = dopsd.parser().parse_args(["table", "methods", *words])
    judge, tasks = Judge(args, dopsd.recipes_of(args)("dopsd_shapes")), planned(words, "methods")
    run, one = tasks[0].directory(judge.runs), tasks[0].taught
    rows = gather(tasks, {tasks[0]: read_result(judge.result_path(tasks[0]))})
    found = drawings(one, tasks, rows, judge)
    shown = pictures(judge.world, one)[:1]
    own = {
        "in context, before": draw(one, judge.student, judge, shown),
        "told alone, before": draw(one, judge.student, judge),
        "D-OPSD": draw(one, judge.load(str(run / "model")), judge),
    }
    assert list(found) == ["true picture", *own]
    for name, by_view in own.items():
        for view in VIEWS:
            assert torch.equal(found[name][view], by_view[view])
    few = [of["few"] for of in found.values()]
    assert not any(torch.equal(a, b) for i, a in enumerate(few) for b in few[:i])


@pytest.mark.slow
def test_a_second_concept_begins_with_the_model_of_the_first(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    work, results = place(words, "work"), place(words, "results")
    assert dopsd.main(["run", "two", *words, "--part", "1/3"]) == 0  # the first may be there
    assert dopsd.main(["run", "two", *words]) == 0
    [run] = work.glob("dopsd/*/2_steps/dopsd_hue4_after_outline5_0")
    config = (run / "config.yaml").read_text()
    assert f"{run.with_name('dopsd_outline5_0') / 'model'}" in config
    assert (work / "dopsd/pictures/hue4_second/0.txt").read_text().startswith("a left [V]")
    capsys.readouterr()
    assert dopsd.main(["table", "two", *words]) == 0
    table = json.loads((results / "tables" / "dopsd_two.json").read_text())
    pair, kept = table["second"]
    assert (pair["first"], pair["second"], pair["held"]) == ("outline5", "hue4", False)
    assert (kept["first"], kept["second"], kept["held"]) == ("outline5", "hue4", True)
    held = (run.with_name(f"{run.name.removesuffix('_0')}_held_0") / "config.yaml").read_text()
    assert "others.txt" in held and "others.txt" not in config
    lines = (work / "dopsd/pictures/outline5.others.txt").read_text().splitlines()
    assert sum("[V]" in line for line in lines) == 36 and len(set(lines)) == 140
    assert "_pictures_" not in (place(words, "docs") / "dopsd_two.md").read_text()
    # judged anew, without training, at the student's own steps alone
    few = [*words[: words.index("--set")], "--few", *words[words.index("--set") :]]
    assert dopsd.main(["run", "two", *few]) == 0
    assert "train 1/2" not in capsys.readouterr().out
    assert dopsd.main(["table", "two", *few]) == 0
    [row] = json.loads((results / "tables" / "dopsd_two.json").read_text())["rows"]
    assert {name.partition(".")[0] for name in row["figures"]} == {"few"}
    assert "30 steps" not in (place(words, "docs") / "dopsd_two.md").read_text()
    assert dopsd.main(["table", "stack", *words]) == 2
    assert "needs --sda FILE" in capsys.readouterr().err
    # an adapter of this student serves as SDA's; at strength 0 it changes nothing
    adapter = run.with_name("dopsd_outline5_0") / "adapter.safetensors"
    stack = [*words[: words.index("--set")], "--sda", str(adapter), *words[words.index("--set") :]]
    only = [w for w in stack if w != "hue4"]
    assert dopsd.main(["table", "stack", *only]) == 0
    rows = json.loads((results / "tables" / "dopsd_stack.json").read_text())["rows"]
    at = {(row["sda"], row["concept"]): row for row in rows}
    assert at[0, 1]["vendi"]["value"] == pytest.approx(at[1, 0]["vendi"]["value"], rel=1e-3)
    assert at[0, 0]["vendi"]["value"] != at[1, 1]["vendi"]["value"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_states(words: list[str]) -> None:
    args = dopsd.parser().parse_args(["run", "memory", *words])
    folder = write_folder(Shapes(), taught(Shapes(), ["hue4"])[0], place(words, "work") / "hue4")
    base = changed(dopsd.recipes_of(args)("dopsd_shapes"), {"data.folder.path": str(folder)})
    grid = load_family(args.student, torch.device("cpu")).sigmas
    assert at_states(base, grid, 16).method.visits is None  # all of them
    found = {f"{k} states": measure(at_states(base, grid, k)) for k in (2, 16)}
    assert found["2 states"]["activations_mb"] > 1
    assert growth(found, "activations_mb") == pytest.approx(1, abs=0.02)
    # twice the samples are twice the activations: what is counted is what a pass keeps
    twice = measure(at_states(changed(base, {"data.batch_size": 8, "data.prior_size": 8}), grid, 2))
    assert twice["activations_mb"] == pytest.approx(
        2 * found["2 states"]["activations_mb"], rel=0.1
    )
