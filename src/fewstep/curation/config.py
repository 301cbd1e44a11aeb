"""What is read, and what is done with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fewstep.curation.clean import Rules
from fewstep.curation.splits import Shares
from fewstep.curation.strata import Quota
from fewstep.errors import UserError


@dataclass(frozen=True, kw_only=True)
class FillConfig:
    """New prompts for kinds that have too few."""

    floor: int = 0
    """Prompts that each combination of labels should have; 0 makes none."""
    command: str | None = None
    """A command that writes them (JSON on its standard input, a prompt a line on its output); none
    combines the taxonomy's own phrases."""


@dataclass(frozen=True, kw_only=True)
class Curation:
    """What is done with the prompts."""

    rules: Rules = field(default_factory=Rules)
    near: float | None = 0.8
    """Jaccard index from which a prompt nearly repeats another; none keeps them."""
    meaning: float = 0.95
    """Cosine of embeddings from which a prompt means the same as another; needs --embed."""
    leak: float = 0.7
    """Jaccard index from which a prompt gives an evaluation prompt away."""
    fill: FillConfig = field(default_factory=FillConfig)
    quota: Quota = field(default_factory=Quota)
    split: Shares = field(default_factory=Shares)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("near", self.near), ("meaning", self.meaning), ("leak", self.leak)):
            if value is not None and not 0 < value <= 1:
                raise UserError(f"--{name} must be above 0 and at most 1, got {value:g}")


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is read."""

    files: Sequence[Path]
    field: str | None = None
    against: Sequence[Path] = ()
    """Files of evaluation prompts."""
    against_field: str | None = None
    taxonomy: Path | None = None
    embed: Path | None = None
    """Directory of a model of texts."""
