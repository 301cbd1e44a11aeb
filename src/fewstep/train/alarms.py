"""When a run is ill, and what is done about it: a rule over its looks, without torch.

A look is what a run shows at a step: numbers of its rows since the look before, of its weights and
of pictures of fixed prompts. Each of these signs has a band, stated in SIGNS; where that is
relative, it is learnt from the first look, which is of the model before training, and from what
there is of pictures that the student should come to.

    alarm      a sign that speaks for it, being out of its band, at `patience` looks one after the
               other; one look is enough of what is not finite, and of signs that are sudden
    healthy    the newest checkpoint at a look with every sign in its band, unless the run has gone
               back since; two of them are kept, and the start is the first
    back       to the newest healthy checkpoint, at `slower` times the learning rates; each is given
               up when it is gone back to, as long as there is an older one

Looks say everything, so a run that resumes decides as one that was never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

Action = Literal["log", "evidence", "slow", "back", "stop"]
"""What an alarm leads to, each with what stands before it but for "slow" and "back", of which the
latter is slower too: a line and a record; pictures beside it; lower learning rates; weights of the
last healthy checkpoint; the end of the run, with these weights."""
ACTIONS: tuple[Action, ...] = ("log", "evidence", "slow", "back", "stop")


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What each alarm leads to."""

    not_finite: Action = "evidence"
    """Steps that did not count, being not finite."""
    heads_win: Action = "evidence"
    """Heads that tell real from fake with ease leave the student little to learn from."""
    heads_lost: Action = "evidence"
    """Heads that tell nothing: the student moves at random."""
    far: Action = "evidence"
    """Estimates, weights or pictures are too far from where they began."""
    looks: Action = "evidence"
    """Detail, sharpness, colour, contrast or scale of pictures."""
    prompts: Action = "evidence"
    """Pictures of different prompts are alike."""
    seeds: Action = "evidence"
    """Pictures of one prompt are alike."""
    average: Action = "evidence"
    """The average that is exported does not follow the student."""

    def of(self, alarm: str) -> Action:
        return getattr(self, alarm)

    def any_of(self, *actions: Action) -> bool:
        return any(self.of(f.name) in actions for f in fields(self))


GO_BACK = Policy(not_finite="back", far="back", looks="back", prompts="back")
"""Of recipes that are known to stay in their bands."""


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    every: int = 0
    """Steps between two looks, and one at the end; 0 looks never."""
    prompts: int = 8
    """Fixed ones, the same as of the pictures on the way where there are as many."""
    seeds: int = 2
    """Pictures of each."""
    batch: int = 8
    """Pictures drawn at a time."""
    patience: int = 2
    """Looks one after the other with a sign out of its band that make an alarm."""
    policy: Policy = field(default_factory=Policy)
    slower: float = 0.5
    """What learning rates are multiplied by, where an alarm asks for it."""
    returns: int = 2
    """The run goes back so many times at most; at the next such alarm it stops."""

    def __post_init__(self) -> None:
        for name, least in (
            ("every", 0), ("prompts", 8), ("seeds", 2), ("batch", 1), ("patience", 1),
            ("returns", 0),
        ):  # fmt: skip
            if (value := getattr(self, name)) < least:
                raise ValueError(f"watch.{name} must be >= {least}, got {value}")
        if not 0 < self.slower <= 1:
            raise ValueError(f"watch.slower must lie in (0, 1], got {self.slower}")

    @property
    def keeps(self) -> bool:
        """Whether healthy checkpoints are needed."""
        return self.every > 0 and self.policy.any_of("back", "stop")


@dataclass(frozen=True, kw_only=True)
class Sign:
    """One number of a look, and the band in which it is healthy."""

    name: str
    words: str
    low: float = -math.inf
    high: float = math.inf
    relative: bool = False
    """The band is a share of the smallest and a multiple of the largest of what the model before
    training has and what it should come to."""
    below: str = ""
    above: str = ""
    """The alarm of values on this side."""
    sudden: bool = False


SIGNS = (
    Sign(name="skipped", words="share of steps that were not finite", high=0.02,
         above="not_finite", sudden=True),
    Sign(name="gap", words="gap of the heads' logits", low=0.02, high=1.4, below="heads_lost",
         above="heads_win"),
    Sign(name="accuracy", words="accuracy of the heads", high=0.98, above="heads_win"),
    Sign(name="spread", words="spread of estimates over that of pictures", low=0.5, high=1.5,
         below="far", above="far"),
    Sign(name="moved", words="share of the weights that training has moved", high=0.5, above="far"),
    Sign(name="behind", words="distance of the average, over the student's way", high=0.95,
         above="average"),
    Sign(name="away", words="distance of pictures from those before training", high=0.5,
         above="far"),
    Sign(name="detail", words="fine detail", low=0.3, high=3.0, relative=True, below="looks",
         above="looks"),
    Sign(name="sharpness", words="sharpness", low=0.6, high=1.6, relative=True, below="looks",
         above="looks"),
    Sign(name="saturation", words="saturation", low=0.5, high=1.8, relative=True, below="looks",
         above="looks"),
    Sign(name="contrast", words="contrast", low=0.5, high=1.8, relative=True, below="looks",
         above="looks"),
    Sign(name="scale", words="scale of what is shown", low=0.7, high=1.5, relative=True,
         below="looks", above="looks"),
    Sign(name="prompts", words="distance between prompts", low=0.5, relative=True,
         below="prompts"),
    Sign(name="seeds", words="distance between seeds", low=0.4, relative=True, below="seeds"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a run showed at a step."""

    step: int
    values: Mapping[str, float]
    """By the names of signs; what a run has not got is missing."""
    beside: Mapping[str, float] = field(default_factory=dict)
    """Of the first look: what pictures have that the student should come to."""


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A sign that left its band."""

    step: int
    name: str
    sign: str
    value: float
    low: float
    high: float
    action: Action
    back_to: int | None = None
    """The step whose weights the run took."""

    def line(self) -> str:
        words = next(sign.words for sign in SIGNS if sign.name == self.sign)
        found = (
            f"alarm at step {self.step}: {self.name}: {words} is {self.value:.3g}, healthy is "
            f"{band_text(self.low, self.high)}"
        )
        return found if self.back_to is None else f"{found}; back to step {self.back_to}"


@dataclass(frozen=True, kw_only=True)
class Course:
    """What the rule makes of all looks up to now."""

    alarms: Sequence[Alarm]
    healthy: Sequence[int]
    """Steps whose checkpoints are kept, newest last."""
    rate: float
    """Of the learning rates, what the run goes on with."""
    stop: str | None
    """Why the run is over."""
    take: int | None
    """The step whose weights are to be taken after the last look."""


def band_text(low: float, high: float) -> str:
    if math.isinf(low):
        return f"up to {high:.3g}"
    return f"from {low:.3g}" if math.isinf(high) else f"{low:.3g} to {high:.3g}"


def band(sign: Sign, start: Look) -> tuple[float, float]:
    """Low and high in a run that began with this look; open where it is relative to nothing."""
    if not sign.relative:
        return sign.low, sign.high
    known = [own[sign.name] for own in (start.values, start.beside) if sign.name in own]
    known = [value for value in known if math.isfinite(value) and value > 0]
    if not known:
        return -math.inf, math.inf
    return sign.low * min(known), sign.high * max(known)


def bands(start: Look) -> dict[str, dict[str, Any]]:
    """Of each sign, in words and numbers."""
    found: dict[str, dict[str, Any]] = {}
    for sign in SIGNS:
        low, high = band(sign, start)
        found[sign.name] = {"words": sign.words, "low": low, "high": high}
    return found


def side(sign: Sign, look: Look, own: tuple[float, float]) -> str | None:
    """The alarm that the value of a look speaks for; None where it is healthy or unknown."""
    value, (low, high) = look.values.get(sign.name), own
    if value is None or low <= value <= high:
        return None
    return (sign.below or sign.above) if value < low else (sign.above or sign.below)


def raised(window: Sequence[Look], patience: int, start: Look) -> list[tuple[Sign, str]]:
    """The signs that make an alarm at the last look of those since the run last went back."""
    found: list[tuple[Sign, str]] = []
    for sign in SIGNS:
        own = band(sign, start)
        if (alarm := side(sign, window[-1], own)) is None:
            continue
        needed = 1 if sign.sudden or not math.isfinite(window[-1].values[sign.name]) else patience
        recent = window[-needed:]
        if len(recent) == needed and all(side(sign, look, own) == alarm for look in recent):
            found.append((sign, alarm))
    return found


def healthy(look: Look, start: Look) -> bool:
    return all(side(sign, look, band(sign, start)) is None for sign in SIGNS)


def course(looks: Sequence[Look], cfg: WatchConfig, *, steps: int, checkpoint_every: int) -> Course:
    """What follows from looks, of which the first is of step 0, in a run of `steps`."""
    alarms: list[Alarm] = []
    kept, rate, returns, since, gone_back = [0], 1.0, 0, 1, 0
    going = set[str]()  # alarms that have been raised and not gone since
    stop, take = None, None
    start = looks[0]
    for i, look in enumerate(looks[1:], 1):
        take = None
        found = raised(looks[since : i + 1], cfg.patience, start)
        new = [(sign, name) for sign, name in found if name not in going]
        going = {name for _, name in found}
        action = strongest([cfg.policy.of(name) for _, name in new])
        again = action == "back" and returns < cfg.returns and look.step < steps
        if action in ("back", "stop"):
            take = kept[-1]
        if again:
            kept = kept[:-1] or kept
            rate, returns, since, going = rate * cfg.slower, returns + 1, i + 1, set[str]()
            gone_back = look.step
        elif action == "slow":
            rate *= cfg.slower
        for sign, name in new:
            low, high = band(sign, start)
            alarms.append(Alarm(
                step=look.step, name=name, sign=sign.name, value=look.values[sign.name], low=low,
                high=high, action=cfg.policy.of(name), back_to=take,
            ))  # fmt: skip
        if take is not None and not again:
            stop = reason(look, new, action, cfg, steps)
            break
        newest = look.step // checkpoint_every * checkpoint_every
        if healthy(look, start) and newest > max(gone_back, kept[-1]):
            kept = [*kept, newest][-2:]
    return Course(alarms=alarms, healthy=kept, rate=rate, stop=stop, take=take)


def strongest(actions: Sequence[Action]) -> Action | None:
    return max(actions, key=ACTIONS.index) if actions else None


def reason(
    look: Look, new: Sequence[tuple[Sign, str]], action: Action | None, cfg: WatchConfig, steps: int
) -> str:
    """Why the run ends with this look."""
    names = ", ".join(dict.fromkeys(name for _, name in new))
    if action == "stop":
        return f"the alarm {names} at step {look.step}, whose watch.policy is stop"
    if look.step >= steps:
        return f"the alarm {names} at its last step"
    return (
        f"the alarm {names} at step {look.step}, and the run has gone back watch.returns = "
        f"{cfg.returns} times"
    )


def told(looks: Sequence[Look], found: Course) -> dict[str, Any]:
    """The course as JSON, with the bands, for whoever reads without the rule."""
    seen = {name for look in looks for name in look.values}
    own = {name: band for name, band in bands(looks[0]).items() if name in seen}
    return {"bands": own, **asdict(found)}
