"""SDA with an assistant: which tree is asked what, and that both train one adapter."""

from __future__ import annotations

import torch
from tests.unit.test_sda import BATCH, CFG, LEVELS, Toy, states
from torch import Tensor
from torch.testing import assert_close

from fewstep.flow.path import to_x0
from fewstep.methods.losses import huber, low_pass
from fewstep.methods.sda import SDA, Assisted
from fewstep.nets.adapters import AdapterConfig, adapt, adapters_of
from fewstep.nets.share import share


def adapted(seed: int = 0) -> tuple[SDA, Toy, Toy]:
    """With an assistant that does something, and an adapter that trains on both trees."""
    bare = Toy(seed=1).requires_grad_(False)
    helped = share(bare)
    cfg = AdapterConfig(kind="lora", rank=2, targets=("feed_forward",))
    adapt(helped, cfg, seed=5)
    for adapter in adapters_of(helped).values():
        torch.nn.init.normal_(adapter.lora_B, std=0.3)  # pyright: ignore
    helped.requires_grad_(False)
    student, on_top = share(bare), share(helped)
    adapt(student, cfg, seed=seed)
    adapt(on_top, cfg, seed=seed)
    method = SDA(
        CFG, student=student, base=bare, teacher=Toy().requires_grad_(False), sampler="euler",
        assisted=Assisted.over(student, on_top, helped),
    )  # fmt: skip
    return method, bare, helped


def test_with_an_assistant_the_first_noise_and_the_anchor_see_it_and_the_rest_do_not() -> None:
    method, bare, helped = adapted()
    xs, level = states(0.9), LEVELS[0.9]
    vs = helped(xs[0], level, BATCH.cond), bare(xs[1], level, BATCH.cond)
    assert not torch.allclose(vs[0], bare(xs[0], level, BATCH.cond))
    ours = [low_pass(to_x0(x, v, level), 2) for x, v in zip(xs, vs, strict=True)]
    goals = [low_pass(method.teach(x, level, BATCH.cond), 2) for x in xs]
    logs = method.compare(xs, level, BATCH.cond, differ=True)[1]
    assert_close(logs["alike"], method.apart(ours[0] - ours[1], goals[0] - goals[1]).mean())
    assert logs["anchor"] == 0  # against the assisted model, from which nothing has moved yet


def test_with_an_assistant_the_first_noise_alone_is_anchored() -> None:
    method, _, helped = adapted()
    for adapter in adapters_of(method.student).values():
        torch.nn.init.normal_(adapter.lora_B, std=0.3)  # pyright: ignore
    xs, level = states(0.9), LEVELS[0.9]
    assert method.assisted is not None
    v, goal = (model(xs[0], level, BATCH.cond) for model in (method.assisted.student, helped))
    asked = list[Tensor]()
    method.student.register_forward_pre_hook(lambda _m, args: asked.append(args[0]))
    logs = method.compare(xs, level, BATCH.cond, differ=False)[1]
    assert not asked  # for nobody would use what it says of the other noises
    assert_close(logs["anchor"], huber(v, goal, 0.08))
    assert logs["anchor"] > 1e-3


def test_both_trees_train_one_adapter() -> None:
    method, _, _ = adapted()
    ours = adapters_of(method.student)
    assert method.assisted is not None
    theirs = adapters_of(method.assisted.student)
    assert ours.keys() == theirs.keys()
    for name, adapter in ours.items():
        for a, b in zip(adapter.parameters(), theirs[name].parameters(), strict=True):
            assert a is b and a.requires_grad
    trained = {id(p) for p in method.student.parameters() if p.requires_grad}
    assert {id(p) for p in method.assisted.student.parameters() if p.requires_grad} == trained
