"""An experiment in YAML: mistakes are named, numbers and nulls are what they look like."""

from __future__ import annotations

import pytest

from fewstep.errors import UserError
from fewstep.experiment.codec import from_yaml


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "method: {name: ladd, layers: [1], studnt_every: 2}",
            "'method.studnt_every'; did you mean 'st",
        ),
        (
            "method: {name: ladd, layers: [1], loss: hing}",
            "method.loss is 'hing'; did you mean 'hinge'?",
        ),
        ("method: {name: ladd, layers: [1], ema_decay: 2}", "in method: ema_decay must lie in"),
        ("method: {name: ladd, layers: 3}", "method.layers must be a list, got 3"),
        ("method: {name: ladd, layers: [a]}", r"method.layers[0] must be an int, got 'a'"),
        ("seed: 1", "the key 'method' is missing"),
        ("method: {name: lad}", "method.name is 'lad'; did you mean 'ladd'?"),
        (
            "method: {layers: [1]}",
            "is None; known: dmd2, dopsd, dreambooth, ladd, offpolicy, pso, sda, sft",
        ),
        ("method: {name: sda}", "sda needs the many-step model that model was distilled from: set"),
        ("method: {name: dmd2}", "method dmd2 needs an optimizer: set optim.critic"),
        ("method: {name: dmd2}\noptim: {critic: {}, heads: {}}", "has no phase for optim.heads"),
        (
            "method: {name: ladd, layers: [1]}\noptim: {heads: {}}\nteacher: x",
            "leave teacher at none",
        ),
        ("method: {name: sft}\ndata: {source: prompts}", "sft learns from pictures: set data.sour"),
        (
            "method: {name: dmd2}\noptim: {critic: {}}\nloop: {steps: 4}",
            "ends before the student's",
        ),
        (
            "method: {name: ladd, layers: [1]}\nloop: {steps: 1.5}",
            "loop.steps must be an int, got 1.5",
        ),
        (
            "method: {name: ladd, layers: [1]}\nloop: {steps: true}",
            "loop.steps must be an int, got True",
        ),
        (
            "method: {name: ladd, layers: [1]}\noptim: {heads: {betas: [0.1]}}",
            "must hold 2 values, got 1",
        ),
        ("- 1", "must be a mapping of keys"),
        ("a: [", "is not YAML"),
    ],
)
def test_yaml_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        from_yaml(text, "run.yaml")
    assert str(caught.value).startswith("run.yaml")
    assert message in str(caught.value)


def test_yaml_numbers_and_nulls() -> None:
    text = (
        "method: {name: ladd, layers: [1]}\noptim: {heads: {lr: 1e-3, clip: null}}\n"
        "data: {micro_batch: 4}"
    )
    experiment = from_yaml(text)
    heads = experiment.optim.heads
    assert heads is not None and (heads.lr, heads.clip) == (1e-3, None)
    assert experiment.data.micro_batch == 4
