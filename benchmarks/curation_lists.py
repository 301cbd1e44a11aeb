"""Lists of prompts with known faults, and what should become of each line."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path

SUBJECTS = (
    "woman", "fox", "robot", "tulip", "pizza", "mountain", "street", "castle", "kitchen", "car",
    "lamp", "nebula", "logo", "fractal",
)  # fmt: skip
STYLES = (
    "a photo of", "an oil painting of", "a pencil drawing of", "an anime of", "pixel art of", "",
)  # fmt: skip
CAMERAS = ("close-up", "wide shot", "from above", "")
SYLLABLES = (
    "ba", "ke", "lo", "mi", "tu", "ra", "se", "no", "vi", "da", "po", "gu", "ha", "zo", "fi",
)  # fmt: skip
WORDS = 14
"""Free words of a prompt: two prompts that have nothing else in common are hardly alike."""
ALIKE = 0.81
"""The default threshold of `fewstep prompts` is 0.8."""
RARE = "an origami dragon seen from below with {}"
"""A kind that nothing else in the list has."""
PLANTED = {"repeats": 0.08, "nearly repeats": 0.08, "leaks": 0.01}
"""Of the prompts that are sound."""
RARE_COUNT = 10
EVALUATION = 1000


@dataclass
class Planted:
    """A list, and for each line what should become of it."""

    lines: list[str] = field(default_factory=list)
    fate: list[str] = field(default_factory=list)
    """kept, rare, or why it should be left out."""
    evaluation: list[str] = field(default_factory=list)

    def add(self, line: str, fate: str) -> None:
        self.lines.append(line)
        self.fate.append(fate)


def planted(n: int, seed: int) -> Planted:
    """About n lines, the planted ones anywhere behind what they repeat."""
    draw, found = random.Random(seed), Planted()
    words = ["".join(draw.choices(SYLLABLES, k=draw.randint(2, 4))) for _ in range(20_000)]

    def fresh() -> str:
        free = " ".join(draw.choices(words, k=WORDS))
        style, camera = draw.choice(STYLES), draw.choice(CAMERAS)
        start = f"{style} a" if style else "a"
        return f"{start} {draw.choice(SUBJECTS)} with {free}" + (f", {camera}" if camera else "")

    found.evaluation = [fresh() for _ in range(EVALUATION)]
    sound = round(n / (1 + sum(PLANTED.values())))
    lines = [(fresh(), "kept") for _ in range(sound)]
    for i in draw.sample(range(sound), min(RARE_COUNT, sound)):
        lines[i] = RARE.format(" ".join(draw.choices(words, k=WORDS))), "rare"
    for text, fate in lines:
        found.add(text, fate)
        if draw.random() < PLANTED["repeats"]:
            found.add(respelled(text, draw), "repeats")
        if draw.random() < PLANTED["nearly repeats"]:
            found.add(reworded(text, draw), "nearly repeats")
        if draw.random() < PLANTED["leaks"]:
            found.add(leaking(draw.choice(found.evaluation), draw), "leaks")
    return found


def respelled(text: str, draw: random.Random) -> str:
    """Other case, punctuation or white space."""
    return draw.choice((text.upper(), f'"{text}"', f"{text}!!", text.replace(" ", "  "),
                        text.replace(", ", " ; ")))  # fmt: skip


def reworded(text: str, draw: random.Random) -> str:
    """One of the free words is another one; at least `ALIKE` of the shingles stay."""
    while True:
        words = text.split()
        words[draw.randrange(len(words) - WORDS, len(words) - 3)] = "".join(
            draw.choices(SYLLABLES, k=2)
        )
        found = " ".join(words)
        one, two = stretches(text), stretches(found)
        if len(one & two) >= ALIKE * len(one | two):
            return found


def stretches(text: str) -> set[str]:
    """Of five letters, as curation cuts them."""
    spelled = f" {' '.join(text.replace(',', ' ').replace('-', ' ').lower().split())} "
    return {spelled[i : i + 5] for i in range(len(spelled) - 4)}


def leaking(text: str, draw: random.Random) -> str:
    """An evaluation prompt as it stands, respelled, reworded, or with more around it."""
    around = f"{text}, highly detailed, 8k, trending"
    return draw.choice((text, respelled(text, draw), reworded(text, draw), around))


def write(found: Planted, folder: Path) -> None:
    """prompts.txt, fates.json and evaluation.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prompts.txt").write_text("".join(f"{line}\n" for line in found.lines))
    (folder / "evaluation.txt").write_text("".join(f"{line}\n" for line in found.evaluation))
    (folder / "fates.json").write_text(json.dumps(found.fate))
