"""The check of the teacher and the retention gauge on a tiny real Z-Image that reads pictures."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from tests.tiny import tiny_zimage
from tests.unit.test_folder import put
from torch import Tensor

from fewstep.data.folder import FolderConfig
from fewstep.data.teacher import TeacherSamples
from fewstep.errors import UserError
from fewstep.evaluate.gallery import eight_bit
from fewstep.evaluate.in_context import TeacherCheckConfig
from fewstep.experiment.builder import Built, build
from fewstep.experiment.codec import to_yaml
from fewstep.experiment.config import DataConfig, Experiment, Optims, SamplingConfig
from fewstep.experiment.folders import find_folders
from fewstep.experiment.retention import of_best, outside_prompts
from fewstep.experiment.strips import read_strip
from fewstep.experiment.teacher_check import TeacherCheck, ensure_teacher, teacher_check
from fewstep.experiment.teacher_prompts import asked
from fewstep.families.base import Cond
from fewstep.families.zimage import ZImage
from fewstep.methods.distil import TeacherConfig
from fewstep.methods.dopsd import DOPSDConfig
from fewstep.methods.sft import SFTConfig
from fewstep.nets.adapters import AdapterConfig
from fewstep.rng import Rng
from fewstep.runs import Run
from fewstep.train.aside import BEST
from fewstep.train.gauge import RECORD, read_rows
from fewstep.train.loop import Outcome, every, train
from fewstep.train.optim import OptimConfig
from fewstep.train.retention import RetentionConfig, best


@pytest.fixture(scope="module")
def family() -> ZImage:
    return tiny_zimage()


@pytest.fixture(scope="module")
def model(family: ZImage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tiny") / "model"
    family.save(directory, family.backbone)
    return directory


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path / "p" / "a.png", "a red circle\na [trigger] circle", width=64, height=64, seed=1)
    put(tmp_path / "p" / "b.png", "two blue squares", width=90, height=64, seed=2)
    (tmp_path / "p" / "a.enhanced.txt").write_text("a red circle\na [trigger] circle")
    (tmp_path / "p" / "b.enhanced.txt").write_text("two blue squares")
    return tmp_path


def experiment(
    root: Path, model: str = "shapes", context: str = "picture", **changes: object
) -> Experiment:
    folder = FolderConfig(path=str(root / "p"), size=64, trigger="sks", context=context)  # type: ignore[arg-type]
    data = DataConfig(
        source="folder", folder=folder, cache=str(root / "cache"), batch_size=2, micro_batch=1,
        samples=TeacherSamples(prompts=4),
    )  # fmt: skip
    values: dict[str, object] = {
        "method": DOPSDConfig(), "data": data, "model": model,
        "check": TeacherCheckConfig(pictures=8), "sampling": SamplingConfig(sampler="euler"),
    }  # fmt: skip
    return Experiment(**{**values, **changes})  # type: ignore[arg-type]


def check_of(given: Experiment, family: ZImage) -> TeacherCheck:
    found = teacher_check(given, family, None, find_folders(given, family).trained)
    assert found is not None
    return found


def console() -> Console:
    return Console(file=io.StringIO(), width=400)


def test_captions_and_new_prompts_take_turns(root: Path, family: ZImage) -> None:
    folder = find_folders(experiment(root), family).trained
    assert folder is not None
    rows = [(a.prompt, a.picture.file, a.seed, a.novel) for a in asked(folder, (), 8)]
    one, two, three = "sks, a red circle", "sks, two blue squares", "a sks circle"
    assert rows == [
        (one, "a.png", 0, False), (one, "b.png", 0, True),
        (two, "b.png", 0, False), (two, "a.png", 0, True),
        (three, "a.png", 0, False), (three, "b.png", 0, True),
        (one, "a.png", 1, False), (one, "b.png", 1, True),
    ]  # fmt: skip
    new = asked(folder, ("a dog", "a [trigger] dog", "two blue squares"), 8)[1::2]
    assert [(a.prompt, a.picture.file, a.seed) for a in new] == [
        ("sks, a dog", "a.png", 0), ("a sks dog", "b.png", 0), (two, "a.png", 0),
        ("sks, a dog", "a.png", 1),
    ]  # fmt: skip
    fuller = find_folders(experiment(root, context="prompt"), family).trained
    assert fuller is not None and not any(a.novel for a in asked(fuller, (), 8))


@torch.no_grad()
def by_hand(family: ZImage, x: Tensor, cond: Cond, nothing: Cond, w: float) -> Tensor:
    """Four Euler steps at w."""
    grid = (1.0, 0.9, 0.75, 0.5, 0.0)
    for here, there in pairwise(grid):
        sigma = torch.full((1,), here)
        v = family.backbone(x, sigma, nothing)
        x = x + (there - here) * (v + w * (family.backbone(x, sigma, cond) - v))
    return family.decode(x)


@pytest.mark.parametrize("w", [1.0, 2.5])
def test_both_draw_from_one_noise_and_the_teacher_in_context(
    root: Path, family: ZImage, w: float
) -> None:
    given = experiment(root, method=DOPSDConfig(teacher=TeacherConfig(guidance=w)))
    check = check_of(given, family)
    drawn = check.draw()
    nothing = family.encode_text([""])
    for i in (0, 3):
        one = drawn.asked[i]
        told, text = check.context(one), family.encode_text([one.prompt])
        assert not torch.equal(told.tokens[0][: len(text.tokens[0])], text.tokens[0])
        eps = Rng(0, 0, "teacher check", [f"{one.seed}\x1f{one.picture.content}\x1f{one.prompt}"])
        x = eps.randn(*family.latent_shape(64, 64))
        for images, cond, weight in ((drawn.teacher, told, w), (drawn.plain, text, 1.0)):
            expected = eight_bit(by_hand(family, x, cond, nothing, weight))
            torch.testing.assert_close(images[[i]], expected, rtol=0, atol=1.01 / 255)
    assert not torch.equal(drawn.teacher, drawn.plain)


def test_a_teacher_that_learns_nothing_from_its_context_is_refused_until_it_is_forced(
    root: Path, family: ZImage
) -> None:
    """Enhanced prompts that say no more than the captions: the teacher is the student."""
    given = experiment(root, context="prompt")
    check = check_of(given, family)
    with Run.create(root / "run", to_yaml(given)) as run:
        path = run.directory / "teacher.json"
        with pytest.raises(UserError, match=r"gain 0\.000, interval 0\.000 .* add --force to"):
            ensure_teacher(check, run, False, console())
        found = json.loads(path.read_bytes())
        assert found["gain"]["all"]["value"] == 0 and not found["forced"]
        assert (found["features"], found["pictures"], found["prompts"]) == ("pixels", 8, 3)
        assert len(found["faults"]) == 1 and found["beside"] is None
        assert (run.directory / "teacher.png").is_file()
        (run.directory / "teacher.png").unlink()
        with pytest.raises(UserError, match="the teacher fails its check"):
            ensure_teacher(check, run, False, console())
        said = console()
        ensure_teacher(check, run, True, said)
        ensure_teacher(check, run, False, said)  # as a resumed run does
        assert said.file.getvalue().count("the run was forced and goes on") == 2  # type: ignore[attr-defined]
        assert json.loads(path.read_bytes()) == {**found, "forced": True}
        assert not (run.directory / "teacher.png").exists()  # nothing was drawn again
    with Run.create(root / "old", to_yaml(given)) as run:
        (run.checkpoints / "step_00000010").mkdir()
        ensure_teacher(check, run, False, console())
        assert not (run.directory / "teacher.json").exists()


def test_who_is_checked(root: Path, family: ZImage) -> None:
    none = TeacherCheckConfig(pictures=0)
    plain = experiment(root, context="none", method=SFTConfig())
    for given in (plain, experiment(root, check=none)):
        assert teacher_check(given, family, None, find_folders(given, family).trained) is None
    with pytest.raises(ValueError, match=r"check\.prompts are read beside a picture"):
        experiment(root, context="prompt", check=TeacherCheckConfig(prompts=("a dog",)))
    with pytest.raises(ValueError, match=r"set data\.source to folder, or retention\.every to 0"):
        Experiment(method=SFTConfig(), retention=RetentionConfig(every=5))
    untriggered = experiment(root, check=TeacherCheckConfig(prompts=("a [trigger] dog",)))
    for name in ("a.png", "b.png"):  # a folder without a place for the word
        (root / "p" / name).with_suffix(".txt").write_text("a dog")
    bare = replace(untriggered.data.folder, trigger=None)
    given = replace(untriggered, data=replace(untriggered.data, folder=bare))
    with pytest.raises(UserError, match=r"check\.prompts: a caption holds \[trigger\]"):
        check_of(given, family)


GAUGE = RetentionConfig(
    every=2, prompts=8, steps=(1,), concept=4, tolerance=0.001, collapse=0.002, returns=1,
)  # fmt: skip


def tuning(root: Path, model: Path) -> Experiment:
    """A rate at which the student collapses at once, by this limit."""
    (root / "outside.txt").write_text("\n".join(f"a {i} dog" for i in range(8)))
    given = experiment(root, str(model))
    return replace(
        given,
        world="none", data=replace(given.data, prompts_file=str(root / "outside.txt")),
        adapter=AdapterConfig(factor=4),
        optim=Optims(student=OptimConfig(lr=2e-3, betas=(0.9, 0.99))),
        loop=replace(given.loop, steps=5, checkpoint_every=100, log_every=1),
        sampling=SamplingConfig(sampler="euler", steps=4, prompts=2, every=100),
        retention=GAUGE, threads=1, device="cpu",
    )  # fmt: skip


def play(built: Built, run: Run, given: Experiment, killed_at: int | None = None) -> Outcome:
    def kill(step: int) -> None:
        if step == killed_at:
            raise KeyboardInterrupt

    return train(
        built.method, built.batches, given.loop, run, built.optims, [every(1, kill)],
        seed=given.seed, console=console(), gauge=built.gauge,
    )  # fmt: skip


def state(built: Built) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value.clone()
        for name, module in built.method.modules.items()
        for key, value in module.state_dict().items()
    }


@pytest.mark.slow
def test_the_gauge_goes_back_and_a_resumed_run_is_the_same_to_the_last_bit(
    root: Path, model: Path
) -> None:
    given = tuning(root, model)
    assert outside_prompts(given, None) == [f"a {i} dog" for i in range(8)]
    directory = root / "a"
    whole = build(given, directory)
    with Run.create(directory, to_yaml(given)) as run:
        ended = play(whole, run, given)
        final = state(whole)
        rows = read_rows(directory / RECORD)
        assert (rows[0].concept, rows[0].loss) == (0, 0)
        assert [row.step for row in rows] == [0, 2, 4] and rows[1].loss > GAUGE.collapse
        assert ended.why is not None and "collapse number 2 at step 4" in ended.why
        strip = directory / "samples" / "retention" / "step_000002_at_04.png"
        shown = read_strip(strip, 8)
        assert shown.shape == (8, 3, 64, 64) and best(rows, GAUGE).step == 0
        with pytest.raises(UserError, match="so there is nothing to write"):
            of_best(whole.gauge, run, given)  # type: ignore[arg-type]

    again = root / "b"
    with Run.create(again, to_yaml(given)) as run, pytest.raises(KeyboardInterrupt):
        play(build(given, again), run, given, killed_at=3)
    resumed = build(given, again)
    with Run.open(again) as run:
        assert play(resumed, run, given) == ended
    assert (again / RECORD).read_bytes() == (directory / RECORD).read_bytes()
    untouched = state(whole)  # since the best was loaded
    for name, value in state(resumed).items():
        assert torch.equal(value, final[name]), name
    assert any(not torch.equal(value, untouched[name]) for name, value in final.items())


@pytest.mark.slow
def test_the_best_is_what_is_written(root: Path, model: Path) -> None:
    given = replace(
        tuning(root, model), retention=replace(GAUGE, tolerance=50.0, collapse=100.0)
    )  # fmt: skip
    directory = root / "a"
    built = build(given, directory)
    with Run.create(directory, to_yaml(given)) as run:
        assert play(built, run, given).why is None
        rows = read_rows(directory / RECORD)
        assert [row.step for row in rows] == [0, 2, 4, 5]
        kept = best(rows, given.retention)
        assert kept.concept == max(row.concept for row in rows[1:])
        assert built.gauge is not None
        assert of_best(built.gauge, run, given).loop.steps == kept.step
    found = json.loads((directory / "checkpoints" / BEST / "state.json").read_bytes())
    assert found["step"] == kept.step
    # the numbers of a row are those of its strips
    look = built.gauge.measure(kept.step)
    assert look == kept
    assert np.isfinite([row.loss for row in rows]).all()
