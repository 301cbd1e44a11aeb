"""When a run is ill, and what is done about it: a rule over its looks, without torch.

    alarm      a sign that speaks for it, being out of its band, at `patience` looks one after the
               other; one look is enough of what is not finite
    healthy    the newest checkpoint at a look at which no sign speaks for an alarm that a run goes
               back or stops for; two of them are kept, and the start is the first
    back       to the newest healthy checkpoint, at `slower` times the learning rates; each is given
               up when it is gone back to, as long as there is an older one

Looks say everything, so a run that resumes decides as one that was never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from fewstep.train.signs import SIGNS, Look, Sign, band, band_text, bands, side

Action = Literal["log", "evidence", "slow", "back", "stop"]
"""What an alarm leads to, each with what stands before it but for "slow" and "back", of which the
latter is slower too: a line and a record; pictures beside it; lower learning rates; weights of the
last healthy checkpoint; the end of the run, with these weights."""
PICTURES = 64
"""A look has at the most: they are kept side by side in one file."""
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
"""Of recipes whose healthy runs have been seen to stay in their bands."""


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
        if (pictures := self.prompts * self.seeds) > PICTURES:
            raise ValueError(
                f"watch.prompts x watch.seeds must be at most {PICTURES} pictures a look, got "
                f"{pictures}"
            )
        if not 0 < self.slower <= 1:
            raise ValueError(f"watch.slower must lie in (0, 1], got {self.slower}")

    @property
    def keeps(self) -> bool:
        """Whether healthy checkpoints are needed."""
        return self.every > 0 and self.policy.any_of("back", "stop")


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


def raised(window: Sequence[Look], patience: int, start: Look) -> list[tuple[Sign, str]]:
    """The signs that make an alarm at the last look of those since the run last went back."""
    found: list[tuple[Sign, str]] = []
    for sign in SIGNS:
        own = band(sign, start)
        if (alarm := side(sign, window[-1], own)) is None:
            continue
        needed = patience if math.isfinite(window[-1].values[sign.name]) else 1
        recent = window[-needed:]
        if len(recent) == needed and all(side(sign, look, own) == alarm for look in recent):
            found.append((sign, alarm))
    return found


def healthy(look: Look, start: Look, policy: Policy) -> bool:
    """Whether nothing speaks against going back here: what is only recorded does not."""
    spoken = {side(sign, look, band(sign, start)) for sign in SIGNS} - {None}
    return not any(policy.of(alarm) in ("back", "stop") for alarm in spoken if alarm)


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
        if healthy(look, start, cfg.policy) and newest > max(gone_back, kept[-1]):
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
