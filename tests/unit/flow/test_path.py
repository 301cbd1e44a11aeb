import runpy
from types import SimpleNamespace

import pytest
import torch
from jaxtyping import TypeCheckError
from torch.testing import assert_close

from fewstep.flow import path

# The functions as users get them, without the run-time shape checks of the test suite.
plain = SimpleNamespace(**runpy.run_path(path.__file__))


@pytest.fixture
def points():
    g = torch.Generator().manual_seed(0)
    x0 = torch.randn(5, 3, 4, 6, generator=g, dtype=torch.float64)
    eps = torch.randn(5, 3, 4, 6, generator=g, dtype=torch.float64)
    sigma = torch.tensor([0.0, 0.25, 0.5, 0.9, 1.0], dtype=torch.float64)
    return x0, eps, sigma


def test_round_trips_in_float64(points):
    """Trap 2: the sign of v."""
    x0, eps, sigma = points
    x, v = path.interpolate(x0, eps, sigma), path.velocity(x0, eps)
    assert x.dtype == torch.float64
    assert_close(path.to_x0(x, v, sigma), x0, atol=1e-14, rtol=0)
    assert_close(path.to_eps(x, v, sigma), eps, atol=1e-14, rtol=0)


def test_ends_and_middle_of_the_path(points):
    x0, eps, sigma = points
    x = path.interpolate(x0, eps, sigma)
    assert torch.equal(x[0], x0[0])
    assert torch.equal(x[-1], eps[-1])
    assert_close(x[1], 0.75 * x0[1] + 0.25 * eps[1])


def test_velocity_is_the_derivative_in_sigma(points):
    x0, eps, sigma = points
    h = 1e-6
    rise = path.interpolate(x0, eps, sigma + h) - path.interpolate(x0, eps, sigma - h)
    assert_close(rise / (2 * h), path.velocity(x0, eps), atol=1e-8, rtol=0)


@pytest.mark.parametrize("function", ["interpolate", "to_x0", "to_eps"])
@pytest.mark.parametrize("shape", [(), (1,), (4, 1), (4, 1, 1, 1), (3,), (4, 4)])
def test_sigma_of_any_shape_but_b_is_refused(function, shape):
    x = torch.zeros(4, 3, 4, 4)
    with pytest.raises(ValueError, match=r"\(b,\).*\(4, 3, 4, 4\)") as caught:
        getattr(plain, function)(x, x, torch.full(shape, 0.5))
    assert str(shape) in str(caught.value)


def test_sigma_scales_samples_never_columns():
    """b = w = 4, where careless broadcasting would pass unseen."""
    x = path.interpolate(
        torch.zeros(4, 1, 4, 4), torch.ones(4, 1, 4, 4), torch.tensor([0.0, 0.1, 0.2, 0.3])
    )
    assert_close(x[:, 0, 0, 0], torch.tensor([0.0, 0.1, 0.2, 0.3]))
    assert (x[2] == x[2, 0, 0, 0]).all()


def test_the_suite_checks_shapes():
    """x0 and eps of different shapes would broadcast; the import hook of conftest objects."""
    with pytest.raises(TypeCheckError):
        path.velocity(torch.zeros(4, 3, 4, 4), torch.zeros(1, 3, 4, 4))
