"""What is looked at once in a run: the first updates, and how the first steps were made."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fewstep.train.optim import Optim


class Firsts:
    """To be asked after every step; soon it has nothing left to do.

    check  is called as soon as every optimizer has made an update since this was made
    say    takes a line about each first update of all (`train.first_move`)
    """

    def __init__(
        self, optims: Mapping[str, Optim], check: Callable[[], None], say: Callable[[str], None]
    ) -> None:
        self.optims, self.check, self.say = optims, check, say
        self.begun = {name: optim.updates for name, optim in optims.items()}

    def look(self) -> None:
        for name, optim in self.optims.items():
            if (text := optim.first_move(name)) is not None:
                self.say(text)
        if self.begun and all(o.updates > self.begun[name] for name, o in self.optims.items()):
            self.begun = {}
            self.check()
