"""KID, CMMD, FD and the neighbour metrics against the packages that others measure with.

Each comparison skips where its package is missing: they are no dependencies of the project.
"""

from __future__ import annotations

import pytest
from benchmarks.oracles import COMPARISONS, SETS, error

NEEDED = {
    "torchmetrics": "torchmetrics",
    "torch_fidelity": "torch_fidelity",
    "scipy": "scipy",
    "sklearn": "sklearn",
}
"""How the name of a comparison ends: what it imports."""


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("key", COMPARISONS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_equals_the_other_package(key: str, name: str) -> None:
    package = next(package for ending, package in NEEDED.items() if key.endswith(ending))
    pytest.importorskip(package, reason=f"{package} is an oracle, not a dependency")
    assert error(COMPARISONS[key], name) < 1e-6
