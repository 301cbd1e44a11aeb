"""A tiny model directory with random weights, options that make everything small, and a cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewstep.cli import suite


@pytest.fixture
def options(model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Everything small; the cache is shared, so samples are drawn once."""
    cache = tmp_path_factory.getbasetemp() / "cache"
    values = {
        "model": model, "data.cache": cache, "data.samples.prompts": 6, "data.samples.steps": 2,
        "data.samples.picture-share": 0.0, "data.batch-size": 4, "loop.steps": 2,
        "loop.log-every": 1, "loop.checkpoint-every": 1, "sampling.every": 1,
        "sampling.prompts": 2, "eval.prompts": 8, "eval.seeds": 2, "method.student-every": 1,
        "method.heads-first": 0, "method.warmup-steps": 0, "method.heads.hidden": 16,
        "method.heads.embed": 8,
    }  # fmt: skip
    return [word for name, value in values.items() for word in (f"--{name}", str(value))]


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Features are kept with the tests, and there are no weights of networks."""
    monkeypatch.setattr(suite, "FEATURES", str(tmp_path_factory.getbasetemp() / "features"))
    monkeypatch.setenv("FEWSTEP_WEIGHTS", str(tmp_path_factory.getbasetemp() / "no_weights"))
