"""Embeddings of a tiny real model; cells, repeats and prototypes against plain loops."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import BertConfig, BertModel, BertTokenizerFast

from fewstep.curation.semantic import Embedder, cells, nearest, same_meaning
from fewstep.errors import UserError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "blue", "bus", "fox", "street"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert(tmp_path_factory.mktemp("texts") / "bert")


def bert(path: Path) -> Path:
    """A BERT of two layers with random weights."""
    path.mkdir()
    BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(path)
    torch.manual_seed(0)
    cfg = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32,
    )  # fmt: skip
    BertModel(cfg).save_pretrained(path)
    return path


def test_an_embedding_is_the_mean_over_the_tokens_of_its_text_alone(directory: Path) -> None:
    embed = Embedder(directory, torch.device("cpu"), batch=2)
    texts = ["a red bus", "a fox", "a blue fox street a red bus"]
    found = embed(texts)
    assert found.shape == (3, 16) and found.dtype == torch.float32
    assert not torch.allclose(found[0], found[1], atol=1e-3)  # the words are known
    for text, row in zip(texts, found, strict=True):
        read = embed.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            states = embed.model(**read).last_hidden_state[0]
        torch.testing.assert_close(row, F.normalize(states.mean(0), dim=-1))


def test_a_directory_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no model of texts"):
        Embedder(tmp_path, torch.device("cpu"))


def around(centres: int, each: int, width: int = 32, spread: float = 0.02) -> Tensor:
    g = torch.Generator().manual_seed(0)
    middle = F.normalize(torch.randn(centres, width, generator=g), dim=-1)
    noise = spread * torch.randn(each, centres, width, generator=g)
    return F.normalize(middle + noise, dim=-1).flatten(0, 1)


def test_repeats_are_those_of_a_plain_loop() -> None:
    x = around(40, 3)
    found = same_meaning(x, 0.9)
    kept: list[int] = []
    for i in range(len(x)):
        alike = [j for j in kept if float(x[i] @ x[j]) >= 0.9]
        assert (found.of[i] >= 0) == bool(alike)
        if alike:
            assert found.of[i] == alike[0]
            assert found.likeness[i] == pytest.approx(float(x[i] @ x[alike[0]]))
        else:
            kept.append(i)
    assert len(kept) == 40


def test_cells_part_what_lies_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    x = around(8, 50)
    own = cells(x, 8)
    assert len(own.unique()) > 1
    for i in range(8):  # what is alike shares a cell, so nothing is missed by looking within cells
        assert len(own[i::8].unique()) == 1
    monkeypatch.setattr("fewstep.curation.semantic.CELL", 50)
    monkeypatch.setattr("fewstep.curation.semantic.AT_ONCE", 7)
    assert same_meaning(x, 0.9).kept.sum() == 8
    monkeypatch.setattr("fewstep.curation.semantic.MOST", 25)
    assert 8 < same_meaning(x, 0.9).kept.sum() <= 8 * 4  # a large cell in parts


def test_prototypes_are_means_of_what_has_a_label() -> None:
    x = F.normalize(torch.tensor([[1.0, 0.0], [0.8, 0.2], [0.0, 1.0], [0.3, 0.9]]), dim=-1)
    found = nearest(x, ["a", "a", "b", None])
    assert [name for name, _ in found] == ["a", "a", "b", "b"]
    a = F.normalize(x[:2].sum(0), dim=-1)
    assert found[3][1] == pytest.approx(float(x[3] @ x[2] - x[3] @ a))
    assert nearest(x, ["a", None, None, None]) == []
