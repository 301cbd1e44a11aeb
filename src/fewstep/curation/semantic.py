"""Prompts that mean the same in other words, by the embeddings of a model from a directory.

Optional: a model of sentences (`--embed DIR`) reads every prompt, for repeats and for labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from fewstep.curation.duplicates import Repeats, nothing
from fewstep.errors import UserError

CELL = 512
"""Prompts of a cell, on average: within it every pair is compared."""
CENTRES, MOST = 4096, 4096
"""Cells at most, and rows of a cell that are compared with each other at most: beyond two million
prompts time grows with their number, and some repeats may be missed."""
AT_ONCE = 1024
"""Rows whose likeness to a whole cell is in memory together."""
ROUNDS = 10
"""Of k-means."""


class Embedder:
    """Mean of a model's last states over a text's tokens, of length 1."""

    def __init__(self, directory: Path, device: torch.device, batch: int = 256) -> None:
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(directory)
            self.model = AutoModel.from_pretrained(directory, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise UserError(f"--embed: {directory} holds no model of texts: {error}") from None
        self.model = self.model.to(device).eval()
        self.batch = batch

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(n, d), float32 on the CPU."""
        found: list[Tensor] = []
        for start in range(0, len(texts), self.batch):
            read = self.tokenizer(
                list(texts[start : start + self.batch]), padding=True, truncation=True,
                return_tensors="pt",
            ).to(self.model.device)  # fmt: skip
            states = self.model(**read).last_hidden_state.float()
            mask = read["attention_mask"].unsqueeze(-1)
            found.append(F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1).cpu())
        return torch.cat(found)


def cells(x: Tensor, count: int) -> Tensor:
    """(n,): the cell of each row of x (n, d), rows of length 1, by k-means from evenly spaced
    rows."""
    centres = x[torch.linspace(0, len(x) - 1, count).long()]
    own = torch.zeros(len(x), dtype=torch.long)
    for _ in range(ROUNDS):
        own = torch.cat([(part @ centres.T).argmax(1) for part in x.split(8192)])
        sums = torch.zeros_like(centres).index_add_(0, own, x)
        some = torch.zeros(count).index_add_(0, own, torch.ones(len(x))) > 0
        centres = torch.where(some[:, None], F.normalize(sums, dim=-1), centres)
    return own


def same_meaning(x: Tensor, threshold: float) -> Repeats:
    """Rows of embeddings (n, d) whose cosine to an earlier kept one of their cell is at least
    `threshold`. A cell of more than `MOST` rows is looked at in parts of so many."""
    repeats = nothing(len(x))
    own = cells(x, max(1, min(len(x) // CELL, CENTRES)))
    for cell in own.unique().tolist():
        for rows in torch.nonzero(own == cell).flatten().split(MOST):
            kept = torch.zeros(len(rows), dtype=torch.bool)
            for start in range(0, len(rows), AT_ONCE):
                likeness = x[rows[start : start + AT_ONCE]] @ x[rows].T
                for i, row in enumerate(likeness, start):
                    alike = (row >= threshold) & kept  # later rows are not kept yet
                    kept[i] = not alike.any()
                    if not kept[i]:
                        first = int(alike.int().argmax())
                        repeats.of[rows[i]] = int(rows[first])
                        repeats.likeness[rows[i]] = float(row[first])
    return repeats


def nearest(x: Tensor, labels: Sequence[str | None]) -> list[tuple[str, float]]:
    """For each row the label whose prototype is nearest, and by how much nearer than the next.

    The prototype of a label is the mean of the rows that have it; None has none. Empty where fewer
    than two labels have rows.
    """
    names = sorted({label for label in labels if label is not None})
    if len(names) < 2:
        return []
    place = {name: i for i, name in enumerate(names)}
    known = torch.tensor([i for i, label in enumerate(labels) if label is not None])
    of = torch.tensor([place[label] for label in labels if label is not None])
    sums = torch.zeros(len(names), x.shape[1]).index_add_(0, of, x[known])
    best, where = (x @ F.normalize(sums, dim=-1).T).topk(2, dim=1)
    margins = (best[:, 0] - best[:, 1]).tolist()
    return [(names[i], m) for i, m in zip(where[:, 0].tolist(), margins, strict=True)]


def embedder(directory: Path) -> Embedder:
    """On a GPU if there is one."""
    return Embedder(directory, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
