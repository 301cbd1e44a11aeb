"""Teacher samples: what the student is trained on, computed once and cached by any number of
processes on any number of machines that share a folder.

A sample depends on (model, prompt, seed, guidance, grid) and on how prompts are read, pictures are
shown and products are computed; on nothing else: not on its place in the list, not on who draws
it, not on an interruption, and not on the batch it was computed in, up to the rounding of the
products. A shard is a unit of work, always computed in the same batches by as many threads, so that
on one kind of machine its bytes are the same whoever makes it and whenever.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from fewstep.data.cache import Computed, SampleCache, begin, suspects
from fewstep.data.drawing import draw
from fewstep.data.index import Index, read_index, write_index
from fewstep.data.leases import PATIENCE, Leases
from fewstep.data.publish import clear
from fewstep.data.shards import (
    Rejected,
    Row,
    commit,
    flaw,
    pack,
    read_shard,
    set_aside,
    shard_path,
)
from fewstep.data.task import Task
from fewstep.data.teacher import TeacherSamples
from fewstep.data.told import Told, quiet
from fewstep.errors import UserError
from fewstep.families.base import Cond, Family
from fewstep.shapes import Latent

WAITS = (0.1, 5.0)
"""Seconds between two looks at what other workers do: at first, and at most."""


def precompute(task: Task, told: Told = quiet, *, patience: float = PATIENCE) -> SampleCache:
    """The cached samples, after computing whatever is missing of them.

    Any number of processes may call it at once: each takes shards that nobody else has, and all
    return when everything is there; one that shows no life for `patience` seconds is taken for
    dead. After an interruption it goes on; a shard that was damaged is set aside and made anew.
    Raises UserError if the directory holds other samples or cannot be written, and where too many
    samples are not finite.
    """
    directory, n = task.directory, len(task.rows)
    own = Computed(task.cfg.batch, threads_of(task.family))
    computed = begin(directory, task.key, own)
    cfg = replace(task.cfg, batch=computed.together)
    leases = Leases(directory / "leases", patience)
    worker = Worker(replace(task, cfg=cfg), told, leases, computed.threads)
    if computed != own:
        worker.notes.append(
            f"the samples in {directory} were begun {computed.together} at a time"
            + (f" on {computed.threads} threads" if computed.threads else "")
            + ", which rounds them, so all of them are"
        )
    index = read_index(directory)
    if index is not None:
        told("teacher samples", n, n)
    else:
        worker.work({})
        index = worker.make_index()
    if bad := suspects(directory, index):
        worker.work(bad)
        before, index = index, worker.make_index(anew=True)
        if any(index.shards[unit] != before.shards[unit] for unit in bad):
            worker.notes.append(
                f"what was made anew in {directory} rounds otherwise than what was there: it was "
                "made by another kind of machine"
            )
        if bad := suspects(directory, index):
            unit, why = next(iter(bad.items()))
            raise UserError(
                f"{shard_path(directory, unit)} was made anew, and {why} again; look after the disk"
            )
    notes = worker.notes
    for left_out in index.rejected[:1]:
        notes.append(
            f"{len(index.rejected)} of {n} teacher samples are left out, the first for the prompt "
            f"{left_out.prompt!r}: {left_out.why}"
        )
    return SampleCache(directory, task.key, index, notes, task.family.encode_text)


@dataclass
class Worker:
    """One of those that draw what is missing in a directory."""

    task: Task
    told: Told
    leases: Leases
    threads: int | None
    notes: list[str] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    """Units that were not there when last looked at."""

    def units(self) -> list[int]:
        return list(range(-(-len(self.task.rows) // self.task.cfg.shard)))

    def of(self, unit: int) -> Sequence[Row]:
        first = unit * self.task.cfg.shard
        return self.task.rows[first : first + self.task.cfg.shard]

    def work(self, bad: Mapping[int, str]) -> None:
        """Draw units, or wait for those that others draw, until all are there and none of `bad`
        is damaged."""
        self.missing = [u for u in self.units() if not self.finished(u, full=u in bad)]
        wait, longest = WAITS
        self.tell()
        while self.missing:
            before = len(self.missing)
            for unit in list(self.missing):
                full = unit in bad
                if self.finished(unit, full=full) or self.take(unit, full=full):
                    self.missing.remove(unit)
                    self.tell()
            if len(self.missing) < before:
                wait = WAITS[0]
            elif self.missing:
                time.sleep(wait)
                wait = min(2 * wait, longest)

    def tell(self, more: int = 0) -> None:
        """`more` of a unit that is being made are drawn."""
        n, size = len(self.task.rows), self.task.cfg.shard
        left = sum(min(size, n - unit * size) for unit in self.missing)
        self.told("teacher samples", n - left + more, n)

    def finished(self, unit: int, *, full: bool) -> bool:
        try:
            return flaw(shard_path(self.task.directory, unit), full=full) is None
        except FileNotFoundError:
            return False

    def take(self, unit: int, *, full: bool) -> bool:
        """Make a unit unless another worker is at it; whether it is there now."""
        path = shard_path(self.task.directory, unit)
        try:
            with self.leases.claim(path.stem) as ours:
                if not ours:
                    return False
                try:
                    if (why := flaw(path, full=full)) is None:
                        return True  # another worker has just finished it
                    set_aside(path, why)
                    self.notes.append(
                        f"{path.name} was damaged ({why}); it is set aside in "
                        f"{self.task.directory / 'quarantine'} and was made anew"
                    )
                except FileNotFoundError:
                    path.unlink(missing_ok=True)
                clear(self.task.directory, path.stem)
                self.make(unit, path)
        except OSError as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"{path} cannot be made: {error.strerror or error}; what is finished is kept, "
                "repair that and run the same command again"
            ) from error
        return True

    def make(self, unit: int, path: Path) -> None:
        cfg, rows = self.task.cfg, self.of(unit)
        try:
            with computing(self.threads):
                read, x0, cond = draw(cfg, self.task.family, rows, self.task.shown, self.tell)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"{cfg.batch} samples at a time do not fit into this GPU's memory: lower "
                f"data.samples.batch and begin another folder than {self.task.directory}, or let "
                f"larger GPUs finish this one ({error})"
            ) from None
        kept, rejected = sieve(cfg, read, x0, cond, unit * cfg.shard)
        data, shard = pack(
            [read[i] for i in kept], x0[kept], cond[kept], texts=cfg.texts == "kept",
            rejected=rejected,
        )  # fmt: skip
        commit(path, data, shard)

    def make_index(self, *, anew: bool = False) -> Index:
        """Of what is there now, by one worker at a time; `anew` even where there is one."""
        directory = self.task.directory
        paths = [shard_path(directory, unit) for unit in self.units()]
        while True:
            with self.leases.claim("index") as ours:
                if ours and (anew or read_index(directory) is None):
                    clear(directory)
                    write_index(directory, self.task.key, [read_shard(path) for path in paths])
                    anew = False
            if not anew and (found := read_index(directory)) is not None:
                return found
            time.sleep(WAITS[0])


def threads_of(family: Family) -> int | None:
    """How many compute; None on a GPU."""
    device = next(family.backbone.parameters()).device
    return torch.get_num_threads() if device.type == "cpu" else None


@contextmanager
def computing(threads: int | None) -> Iterator[None]:
    """So many threads of the processor compute in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def sieve(
    cfg: TeacherSamples, rows: Sequence[Row], x0: Latent, cond: Cond, first: int
) -> tuple[list[int], list[Rejected]]:
    """The rows whose samples are finite, and the others; UserError names the first where there are
    more of these than `cfg.rejects` allows. `first` is the number of the first row."""
    kept: list[int] = []
    rejected: list[Rejected] = []
    for i, (row, x, tokens) in enumerate(zip(rows, x0, cond.tokens, strict=True)):
        if x.isfinite().all() and tokens.isfinite().all():
            kept.append(i)
            continue
        what = "latent" if tokens.isfinite().all() else "condition"
        rejected.append(Rejected(row.id, row.prompt, f"its {what} is not finite"))
        if len(rejected) > cfg.rejects * len(rows):
            worst = rejected[0]
            number = next(n for n, r in enumerate(rows, first) if r.id == worst.id)
            raise UserError(
                f"the teacher's sample {number} (prompt {worst.prompt!r}, seed {cfg.seed}) is not "
                f"finite, and {cfg.rejects:.3g} of a file may be so (data.samples.rejects); try "
                "dtype = float32 or engine = plain, and see whether the model draws at all"
            )
    return kept, rejected
