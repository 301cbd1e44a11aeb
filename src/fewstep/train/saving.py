"""The checkpoints of a run while it trains.

Small whole weights are written by the first process at once. Of large ones it makes a copy in main
memory, of sharded ones each process of its part, and goes on; a thread writes the copy and touches
nothing else, least of all the other processes. That all are done is found out between two steps, by
all together, and only then is there a checkpoint: until its manifest is written and its directory
renamed, the one before is the newest.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from fewstep.disk import sync
from fewstep.runs import RunError
from fewstep.train import checkpoint
from fewstep.train.checkpoint import FORMAT, IN_PARTS, Progress, frozen_of, moving
from fewstep.train.commit import (
    begin,
    commit,
    entry,
    name_of,
    not_saved,
    reason,
    temporary_of,
)
from fewstep.train.optim import Optim
from fewstep.train.parts import Held
from fewstep.train.ranks import Ranks

LARGE = 2**31
"""Bytes from which on training does not wait for whole weights to be written."""
Entries = dict[str, dict[str, int]]
"""Size and crc32 of each file that a process has written."""


@dataclass(frozen=True)
class Pending:
    """A checkpoint that is being written: its temporary directory and what this process writes."""

    temporary: Path
    final: Path
    state: Mapping[str, Any]
    files: Future[Entries]


class Saving:
    """Saves the modules and optimizers of a run into a folder, newest `keep`. Every method is for
    all processes at once, and raises RunError in all of them where one cannot write."""

    def __init__(
        self, folder: Path, modules: Mapping[str, nn.Module], optims: Mapping[str, Optim],
        keep: int, ranks: Ranks,
    ) -> None:  # fmt: skip
        self.folder, self.modules, self.optims = folder, modules, optims
        self.keep, self.ranks = keep, ranks
        self.writer = ThreadPoolExecutor(1, "checkpoint")
        self.pending: Pending | None = None

    def save(self, progress: Progress) -> None:
        """Write a checkpoint, or begin to; `finish` comes before it."""
        assert self.pending is None
        if self.ranks.sharded or self.size() >= LARGE:
            self.pending = self.begun(progress)
            return
        failure = None
        if self.ranks.first:
            try:
                checkpoint.save(self.folder, progress, self.modules, self.optims, keep=self.keep)
            except RunError as error:
                failure = str(error)
        self.told(failure)

    def size(self) -> int:
        """Bytes of what a checkpoint of whole weights holds."""
        still = frozen_of(self.modules)
        tensors = [t for module in self.modules.values() for t in moving(module, still).values()]
        for optim in self.optims.values():
            tensors += optim.state()[0].values()
        return sum(t.numel() * t.element_size() for t in tensors)

    def look(self) -> None:
        """Between two steps: where all have written their parts, make them a checkpoint."""
        if self.pending and not self.ranks.any(not self.pending.files.done()):
            self.finish()

    def finish(self) -> None:
        """Wait until what was begun is a checkpoint."""
        if self.pending is None:
            return
        pending, self.pending = self.pending, None
        manifest: Entries = {}
        failure: str | None = None
        try:
            manifest = pending.files.result()
        except (OSError, SafetensorError) as error:
            failure = not_saved(pending.final, reason(error))
        said = self.ranks.all_facts([manifest, failure])
        failure = next((why for _, why in said if why is not None), None)
        if self.ranks.first and failure is None:
            whole = {name: facts for files, _ in said for name, facts in files.items()}
            failure = self.committed(pending, whole)
        elif self.ranks.first:
            shutil.rmtree(pending.temporary, ignore_errors=True)
        self.told(failure)

    def begun(self, progress: Progress) -> Pending:
        """Copies taken, and a thread started that writes them."""
        final = self.folder / name_of(progress.step)
        owner = self.ranks.all_facts(os.getpid())[0]
        temporary, failure = temporary_of(final, owner), None
        if self.ranks.first:
            try:
                begin(temporary)
            except OSError as error:
                failure = not_saved(final, reason(error))
        self.told(failure)
        held: dict[str, Held] = {}
        facts: dict[str, Any] = {}
        still = frozen_of(self.modules)
        parts = {file_name("module", name, self.ranks): moving(module, still)
                 for name, module in self.modules.items()}  # fmt: skip
        for name, optim in self.optims.items():
            parts[file_name("optim", name, self.ranks)], facts[name] = optim.state()
        if self.ranks.sharded or self.ranks.first:
            own = {"first": self.ranks.first, "whole": not self.ranks.sharded}
            held = {name: Held.of(part, **own) for name, part in parts.items()}
        format = IN_PARTS if self.ranks.sharded else FORMAT
        state = {"format": format, **vars(progress), "optims": facts}
        return Pending(temporary, final, state, self.writer.submit(written, temporary, held))

    def committed(self, pending: Pending, manifest: Entries) -> str | None:
        """What went wrong while the parts were made a checkpoint; None is nothing."""
        try:
            commit(pending.temporary, pending.final, pending.state, manifest, self.keep)
        except OSError as error:
            shutil.rmtree(pending.temporary, ignore_errors=True)
            return not_saved(pending.final, reason(error))
        return None

    def told(self, failure: str | None) -> None:
        """RunError in all processes for what has gone wrong in one."""
        for why in self.ranks.all_facts(failure):
            if why is not None:
                raise RunError(why)


def file_name(kind: str, name: str, ranks: Ranks) -> str:
    """Of what a process writes of a module or an optimizer."""
    part = f".{ranks.rank}-of-{ranks.count}" if ranks.sharded else ""
    return f"{kind}.{name}{part}.safetensors"


def written(folder: Path, held: Mapping[str, Held]) -> Entries:
    found: Entries = {}
    for name, part in held.items():
        part.write(folder / name)
        sync(folder / name)
        found[name] = entry(folder / name)
    return found
