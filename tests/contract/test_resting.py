"""A text encoder that rests comes for the time in which it reads, and reads the same."""

from __future__ import annotations

import pytest
import torch
from tests.tiny import tiny_zimage

CPU = torch.device("cpu")


def test_it_comes_to_the_model_and_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    family, places = tiny_zimage(), list[str]()
    [before] = family.encode_text(["a red circle"]).tokens
    real = family.move_readers

    def move(device: torch.device) -> None:
        places.append(str(device))
        real(CPU)

    monkeypatch.setattr(family, "move_readers", move)
    monkeypatch.setattr(type(family.pipeline.transformer), "device", torch.device("cuda"))
    [unmoved] = family.encode_text(["a red circle"]).tokens
    assert not places  # one that does not rest stays where it is
    family.rest()
    [resting] = family.encode_text(["a red circle"]).tokens
    assert torch.equal(before, resting) and torch.equal(before, unmoved)
    assert places == ["cpu", "cuda", "cpu"]
    with pytest.raises(RuntimeError, match="in between"), family.awake():
        raise RuntimeError("in between")
    assert places == ["cpu", "cuda", "cpu", "cuda", "cpu"]
