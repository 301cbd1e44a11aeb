import pytest
import torch
from torch.testing import assert_close

from fewstep.flow import guidance, sample, sigmas


def pair():
    g = torch.Generator().manual_seed(2)
    return (torch.randn(2, 3, 4, 4, generator=g) for _ in range(2))


def test_w_0_and_w_1_are_the_two_inputs_bit_for_bit():
    """Trap 5."""
    cond, uncond = pair()
    assert torch.equal(guidance.cfg(cond, uncond, 1.0), cond)
    assert torch.equal(guidance.cfg(cond, uncond, 0.0), uncond)


@pytest.mark.parametrize("w", [-1.0, 0.3, 2.0, 4.5])
def test_w_is_the_standard_form(w):
    cond, uncond = pair()
    assert_close(guidance.cfg(cond, uncond, w), uncond + w * (cond - uncond))
    # The other common way to write it, one less: s = w - 1.
    assert_close(guidance.cfg(cond, uncond, w), cond + (w - 1) * (cond - uncond))


@pytest.mark.parametrize(("w", "calls"), [(1.0, 4), (2.0, 8), (0.0, 8)])
def test_guidance_doubles_the_calls_unless_it_is_off(w, calls):
    """Trap 3: N calls, 2N with guidance."""
    asked = []

    def model(x, sigma, cond):
        asked.append(cond)
        return x * cond

    x, _ = pair()
    v = guidance.guided(model, 3.0, 2.0, w)
    sample.euler(v, x, sigmas.turbo_grid(4))
    assert len(asked) == calls
    assert_close(v(x, torch.ones(2)), x * (2 + w))


def test_unconditional_input_is_needed_only_with_guidance():
    def model(x, sigma, cond):
        return x * cond

    x, _ = pair()
    assert torch.equal(guidance.guided(model, 3.0, None, 1.0)(x, torch.ones(2)), 3 * x)
    with pytest.raises(ValueError, match=r"w = 2\.0"):
        guidance.guided(model, 3.0, None, 2.0)
