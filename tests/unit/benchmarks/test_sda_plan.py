"""What the SDA studies train and draw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.sda import benches, parser
from benchmarks.sda_drawings import Drawing
from benchmarks.sda_plan import (
    STUDENTS,
    STUDIES,
    Bench,
    ablations,
    at_budget,
    equal_lora,
    parameters,
    plan,
    recipe,
)
from benchmarks.study_plan import DEFAULT, Job, changed

from fewstep.errors import UserError
from fewstep.experiment.codec import difference, flat, to_dict
from fewstep.experiment.config import Experiment
from fewstep.experiment.models import model_path
from fewstep.families.zimage import ZImage
from fewstep.nets.adapters import AdapterConfig
from fewstep.nets.lokr import factorization
from fewstep.recipes.dmd2 import dmd2_shapes
from fewstep.recipes.sda import sda_shapes

BASE = changed(
    sda_shapes(),
    {
        "method.states": "own", "data.source": "prompts", "method.pool": 2, "method.gate": 0,
        "method.guidance": 2.0, "method.teacher_steps": 4, "method.noises": 2,
        "method.anchor_weight": 1.0, "method.anchor_delta": 0.08, "data.batch_size": 16,
        "adapter.kind": "lokr", "adapter.factor": 4, "loop.steps": 200,
    },
)  # fmt: skip
FILE = "assistant.safetensors"


@pytest.fixture(params=STUDIES, scope="module")
def bench(request: pytest.FixtureRequest) -> Bench:
    return plan(request.param, STUDIES[request.param].students[0], BASE, FILE)


def test_every_job_differs_by_its_overrides_alone(bench: Bench) -> None:
    for job in bench.study.jobs():
        wanted = {**flat(to_dict(BASE)), **job.variant.overrides, "seed": job.seed}
        assert flat(to_dict(job.experiment)) == wanted, job.variant.name
        if job.variant.name != DEFAULT:
            assert difference(BASE, replace(job.experiment, seed=BASE.seed))


def test_names_are_distinct_and_the_default_comes_first(bench: Bench) -> None:
    names = [v.name for v in bench.study.variants]
    assert len(set(names)) == len(names) and names[0] == DEFAULT
    told = [(t.variant.name if isinstance(t, Job) else t.name, t.seed) for t in bench.tasks]
    assert len(set(told)) == len(told)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_parts_hold_each_task_once(bench: Bench, count: int) -> None:
    parts = [task for i in range(count) for task in bench.share((i, count))]
    assert sorted(map(bench.tasks.index, parts)) == list(range(len(bench.tasks)))


def levels(base: Experiment) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for variant in ablations(base, FILE)[1:]:
        changed(base, variant.overrides)  # each can be built
        found.setdefault(variant.question, []).append(variant.level.partition(":")[0])
    return found


def test_the_ablations_ask_everything_but_what_the_recipe_is() -> None:
    assert levels(BASE) == {
        "pooling": ["1", "4", "8", "means alone"], "distance": ["mse"],
        "clean estimate": ["x - v"], "levels gated": ["last 2"],
        "anchor": ["weight 0"],
        "anchor delta": ["0.02", "0.3"], "states": ["pictures, noised"],
        "teacher's calls": ["1"], "teacher's w": ["1"], "noises a prompt": ["4"],
        "assistant": ["anchor and first noise", "all"], "adapter": ["LoRA of rank 13"],
    }  # fmt: skip
    other = changed(BASE, {
        "method.states": "samples", "data.source": "samples", "method.noises": 4,
        "method.anchor_weight": 0.0, "method.anchor_delta": 0.1, "method.pool": None,
        "method.gate": 1, "method.hold_weight": 10.0,
    })  # fmt: skip
    found = levels(other)
    assert found["states"] == ["the student's own, no pictures"]
    assert found["levels gated"] == ["none", "last 2"]
    assert found["anchor of gated levels"] == ["weight 1"]
    assert found["pooling"] == ["1", "2", "4", "8"] and found["noises a prompt"] == ["2"]
    assert found["anchor"] == ["weight 1"] and found["anchor delta"] == ["0.02", "0.08", "0.3"]


def test_each_level_changes_exactly_what_it_says() -> None:
    found = {v.name: v.overrides for v in ablations(BASE, FILE)[1:]}
    assert found["pool_none"] == {"method.pool": None}
    assert found["card"] == {"method.estimate": "card"}
    assert found["pictures"] == {"method.states": "samples", "data.source": "samples"}
    asymmetric = {"assistant": FILE, "assistant_share": "asymmetric"}
    assert found["assistant_asymmetric"] == asymmetric
    assert found["assistant_symmetric"] == {**asymmetric, "assistant_share": "symmetric"}
    assert found["noises4"] == {"method.noises": 4, "data.batch_size": 8}
    assert found["lora"] == {"adapter.kind": "lora", "adapter.rank": 13}
    small = changed(BASE, {"data.micro_batch": 4})
    noises = next(v for v in ablations(small, FILE) if v.name == "noises4")
    assert noises.overrides["data.micro_batch"] == 2


def test_lora_and_lokr_train_equally_many_numbers() -> None:
    family = ZImage.load(model_path("shapes"))
    shapes = [
        tuple(layer.weight.shape)
        for name, layer in family.pipeline.transformer.named_modules()
        if name.startswith("layers.") and hasattr(layer, "in_features")
    ]
    lora, of_lora, own = equal_lora(BASE)
    pairs = [(factorization(out, 4), factorization(inner, 4)) for out, inner in shapes]
    assert own == sum(a * b + c * d for (a, c), (b, d) in pairs) == 246_120
    assert lora.rank == 13 and lora.kind == "lora"
    assert of_lora == sum(13 * (out + inner) for out, inner in shapes) == 239_538
    assert abs(of_lora / own - 1) < 0.05
    attention = AdapterConfig(factor=4, targets=("attention",))
    assert parameters("shapes", attention) < own
    with pytest.raises(UserError, match=r"adapter is lora; set adapter.kind to lokr"):
        equal_lora(changed(BASE, {"adapter.kind": "lora", "adapter.rank": 2}))


def test_another_budget_keeps_the_share_of_the_warm_up() -> None:
    base = changed(BASE, {"optim.student.warmup": 20})
    found = at_budget(base, 50)
    assert (found.loop.steps, found.optim.student.warmup) == (50, 5)
    assert at_budget(base, None) == base


def test_sizes_and_shared_runs() -> None:
    assert [len(plan(n, "4", BASE, FILE).tasks) for n in ("seeds", "seeds8")] == [5, 5]
    assert len(plan("seeds", "4", BASE, FILE, steps=2, n=1).tasks) == 1
    first = plan("seeds", "4", BASE, FILE).tasks[2]
    second = plan("ablations", "4", BASE, FILE).study.jobs()
    assert isinstance(first, Job)
    shared = [job for job in second if job.variant.name == DEFAULT and job.seed == first.seed]
    assert [job.directory(Path("r")) for job in shared] == [first.directory(Path("r"))]
    assert shared[0].experiment == first.experiment


def test_what_is_drawn_without_training() -> None:
    found = [t for t in plan("strengths", "4", BASE, FILE).tasks if isinstance(t, Drawing)]
    assert {t.seed for t in found} == {0, 1, 2} and len(found) == 3 * (7 + 3)
    own = [t for t in found if t.seed == 1]
    assert [t.strength for t in own if t.gate is None] == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5]
    assert [t.gate for t in own if t.gate is not None] == [1, 2, 3]
    ways = [t for t in plan("yardsticks", "4", BASE, FILE).tasks if isinstance(t, Drawing)]
    assert {type(t.variety).__name__ for t in ways} == {
        "FirstStepBy", "ConditionNoise", "Damped", "ScaledNoise", "NoneType",
    }  # fmt: skip
    assert [t.seed for t in ways if t.variety is None] == [0]


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no recipe 'sda_shape'.*sda_shapes"):
        recipe("sda_shape")
    with pytest.raises(UserError, match="needs a recipe of it, got method dmd2"):
        ablations(dmd2_shapes(), FILE)
    words = ["plan", "yardsticks", "--student", "a", "--work", str(tmp_path)]
    with pytest.raises(UserError, match="4 and 8 steps: give --student one directory for each"):
        benches(parser().parse_args(words))
    few = [*words, "--on", "4", "--prompts", "4"]
    with pytest.raises(UserError, match=r"--prompts of at least 8 .* got 4 x 16"):
        benches(parser().parse_args(few))
    [bench] = benches(parser().parse_args([*words, "--on", "4", "--set", "method.pool=4"]))
    assert (bench.base.model, bench.base.teacher) == ("a", "shapes")
    assert to_dict(bench.base)["method"]["pool"] == 4
    [bench] = benches(parser().parse_args(["plan", "seeds", "--work", str(tmp_path)]))
    assert bench.base.model == str(tmp_path / "sda" / "student4_0" / "model")
    assert bench.base.engine == "fused" and set(STUDENTS) == {"4", "8"}
