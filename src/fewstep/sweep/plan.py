"""Everything that was decided of a sweep before its first run, and sweep.yaml, which says it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from fewstep.errors import UserError
from fewstep.evaluate.catalogue import LOWER, metric
from fewstep.evaluate.fidelity import MIN_PROMPTS
from fewstep.evaluate.metrics import SHARES, suffix
from fewstep.experiment.codec import decode, flat, to_dict
from fewstep.experiment.config import Experiment
from fewstep.sweep.decide import MIN_SEEDS, Better
from fewstep.sweep.space import Space, read_space, written

ScoreName = Literal["kid", "adherence"]
FILE = "sweep.yaml"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """UserError where its parts contradict each other."""

    recipe: str
    """What the first trial is called."""
    base: Experiment
    """The recipe at the budget of a trial."""
    space: Space
    """Empty where a command proposes changes."""
    trials: int
    """With the recipe, which is trial 0."""
    seeds: int
    """Training seeds of a trial: base.seed and those after it."""
    top: int
    """Trials that are run again with new seeds at the end, beside the recipe."""
    fresh: int
    """Those seeds."""
    score: ScoreName = "kid"
    prompts: int = 64
    pictures: int = 2
    """Of each prompt."""
    extractor: str | None = None
    """Of features; None is the world's own."""
    propose: str | None = None
    """The command that says what to change next; None takes Optuna's sampler."""

    def __post_init__(self) -> None:
        least = {"trials": 1, "seeds": MIN_SEEDS, "top": 1, "fresh": MIN_SEEDS, "pictures": 1,
                 "prompts": MIN_PROMPTS}  # fmt: skip
        for name, bound in least.items():
            if (value := getattr(self, name)) < bound:
                why = ": nothing is called better on one training seed" if bound == 2 else ""
                raise UserError(f"--{name} must be >= {bound}, got {value}{why}")
        if not self.space and self.propose is None:
            raise UserError("sweep needs --vary FIELD=LOW..HIGH or --propose COMMAND")
        if self.base.world == "none" and self.extractor is None:
            raise UserError(
                "with world none there is no truth, and pictures are held against the teacher's by "
                "features of --extractor: inception, dinov2, clip or pixels"
            )
        if self.base.world == "none" and self.score == "adherence":
            raise UserError("--score adherence needs a world that can tell what is asked for")

    @property
    def training_seeds(self) -> range:
        return range(self.base.seed, self.base.seed + self.seeds)

    @property
    def fresh_seeds(self) -> range:
        """None of which a trial was chosen on."""
        return range(self.training_seeds.stop, self.training_seeds.stop + self.fresh)

    @property
    def score_key(self) -> str:
        """The metric that is swept for."""
        if self.score == "adherence":
            return "adherence"
        return "kid" + suffix(self.extractor or "shapes")

    @property
    def diversity_key(self) -> str:
        if self.base.world == "none":
            return "distance" + suffix(self.extractor or "shapes")
        return "layout_diversity"

    @property
    def keys(self) -> tuple[str, ...]:
        """The metrics that are kept of a run, the score first."""
        beside = () if self.base.world == "none" else ("kid" + suffix(self.extractor or "shapes"),
                                                       "adherence")  # fmt: skip
        return tuple(dict.fromkeys((self.score_key, self.diversity_key, *beside)))

    @property
    def better(self) -> Better:
        return "lower" if metric(self.score_key).better == LOWER else "higher"

    @property
    def share(self) -> bool:
        """Whether the score is a share of pictures."""
        return is_share(self.score_key)

    @property
    def runs(self) -> int:
        """Training runs at most."""
        return self.trials * self.seeds + (min(self.top, self.trials - 1) + 1) * self.fresh


def is_share(key: str) -> bool:
    return key.startswith(SHARES)


NUMBERS = ("trials", "seeds", "top", "fresh", "score", "prompts", "pictures", "extractor",
           "propose")  # fmt: skip


def to_text(plan: Plan) -> str:
    """sweep.yaml."""
    found: dict[str, Any] = {
        "recipe": plan.recipe, **{name: getattr(plan, name) for name in NUMBERS},
        "space": {key: written(own) for key, own in plan.space.items()},
        "experiment": to_dict(plan.base),
    }  # fmt: skip
    return yaml.safe_dump(found, sort_keys=False, allow_unicode=True)


def read_plan(path: Path) -> Plan:
    """The inverse. UserError for a file that is none."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        base = decode(Experiment, found["experiment"], str(path), "")
        words = [f"{key}={text}" for key, text in found["space"].items()]
        own = {name: found[name] for name in NUMBERS}
        return Plan(recipe=found["recipe"], base=base, space=read_space(words, base), **own)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(f"{path} does not say what is swept there: {error!r}") from None


def check_same(directory: Path, plan: Plan) -> None:
    """UserError where another sweep lies in the directory; it names what differs."""
    there, here = (flat(yaml.safe_load(to_text(p))) for p in (read_plan(directory / FILE), plan))
    lines = [
        f"{key}: {there.get(key, 'nothing')} there, {here.get(key, 'nothing')} here"
        for key in {**there, **here}
        if there.get(key) != here.get(key)
    ]
    if lines:
        raise UserError(
            f"the sweep {directory} was started with another command ({'; '.join(lines)}); choose "
            "another --out, or change the options back"
        )
