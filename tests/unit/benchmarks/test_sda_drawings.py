"""An adapter at other strengths and in the first steps alone, on a tiny model."""

from __future__ import annotations

import torch
from benchmarks.sda_drawings import Gated, blend
from tests.adapted import SIGMA, cond, new_base, noise, run, student_of

from fewstep.flow.sample import euler
from fewstep.nets.adapters import merged, set_strength


@torch.no_grad()
def test_blended_weights_are_the_adapter_at_that_strength() -> None:
    for strength in (0.0, 0.25, 1.0, 1.5):
        base = new_base()
        student = student_of(base)
        adapted = merged(student)
        bare = new_base()
        blend(bare.transformer, adapted.transformer, strength)
        set_strength(student, strength)
        torch.testing.assert_close(run(bare), run(student), atol=1e-4, rtol=1e-4)
        for exact, other in ((0.0, base), (1.0, adapted)):
            if strength == exact:
                pairs = zip(bare.state_dict().values(), other.state_dict().values(), strict=True)
                assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.allclose(run(new_base()), run(adapted), atol=1e-2)


@torch.no_grad()
def test_the_gate_is_the_adapter_first_and_the_student_then() -> None:
    base = new_base()
    adapted, told = merged(student_of(base)), cond(base)
    grid = (1.0, 0.9, 0.75, 0.5, 0.0)
    for steps in (1, 2, 3):
        x = noise()
        for i in range(4):
            model = adapted if i < steps else base
            v = model(x, torch.full((2,), grid[i]), told)
            x = x + (grid[i + 1] - grid[i]) * v
        gate = Gated(base, adapted, steps, grid)
        found = euler(lambda x, sigma, gate=gate: gate(x, sigma, told), noise(), grid)
        torch.testing.assert_close(found, x)
    low = torch.full_like(SIGMA, 0.3)
    assert torch.equal(gate(noise(), low, told), base(noise(), low, told))
