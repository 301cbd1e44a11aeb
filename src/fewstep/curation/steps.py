"""What the stages do with a book of prompts (`pipeline` has their order)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from fewstep.curation import fill, semantic
from fewstep.curation.book import Book
from fewstep.curation.clean import Detect, Rules, detector, key, normalised
from fewstep.curation.config import Curation, Source
from fewstep.curation.duplicates import Repeats, exact, near
from fewstep.curation.leaks import Guard
from fewstep.curation.likeness import signatures
from fewstep.curation.read import Bad, read
from fewstep.curation.splits import split
from fewstep.curation.strata import Stratum, allocate, chosen
from fewstep.curation.taxonomy import OTHER, Label, Taxonomy
from fewstep.data.told import Told
from fewstep.errors import UserError
from fewstep.hashing import text_hash

UNREADABLE, RULE, REPEATS, NEARLY, MEANING, LEAK, SURPLUS = (
    "unreadable", "against a rule", "repeats", "nearly repeats", "means the same", "leaks",
    "over quota",
)  # fmt: skip
FILLED = "filled"
"""The source of prompts that no file has."""
REASONS = (UNREADABLE, RULE, REPEATS, NEARLY, MEANING, LEAK, SURPLUS)
"""Why a row is left out, in the order of the stages."""


def clean(source: Source, rules: Rules, told: Told, _: Book) -> Book:
    detect = detector_of(rules)
    book, keys, rows = Book(), list[str](), list[int]()
    for found in read(source.files, source.field):
        if isinstance(found, Bad):
            book.add("", "", found.source, found.line, f"{UNREADABLE}: {found.why}")
            continue
        text = normalised(found.text)
        broken = rules.broken(text, detect) if text else "is empty"
        why = None if broken is None else f"{RULE}: {broken}"
        book.add(text_hash(text), text, found.source, found.line, why)
        if why is None:
            keys.append(key(text))
            rows.append(len(book) - 1)
        if len(book) % 65536 == 0:
            told("reading prompts", len(book), len(book))
    names = ", ".join(path.name for path in source.files)
    if not len(book):
        raise UserError(f"there is no prompt in {names}")
    if not rows:
        raise UserError(
            f"none of the {len(book)} rows of {names} can be used; the first, "
            f"{book.sources[0]}:{book.lines[0]}, {str(book.why[0]).partition(': ')[2]}"
        )
    drop_repeats(book, rows, exact(keys), REPEATS)
    return book


def detector_of(rules: Rules) -> Detect | None:
    return detector() if rules.languages else None


def drop_repeats(book: Book, rows: Sequence[int], found: Repeats, why: str) -> None:
    """`found` is about these rows, in their order."""
    for row, of, likeness in zip(rows, found.of.tolist(), found.likeness.tolist(), strict=True):
        if of >= 0:
            book.drop(row, why, book.texts[rows[of]], likeness)


def keys_of(book: Book, rows: Sequence[int]) -> list[str]:
    return [key(book.texts[i]) for i in rows]


def drop_near(threshold: float | None, told: Told, book: Book) -> Book:
    if threshold is not None:
        rows = book.kept()
        keys = keys_of(book, rows)
        drop_repeats(book, rows, near(keys, signatures(keys, told), threshold), NEARLY)
    return book


def drop_meaning(directory: Path, threshold: float, book: Book) -> Book:
    rows = book.kept()
    if rows:
        x = semantic.embedder(directory)([book.texts[i] for i in rows])
        drop_repeats(book, rows, semantic.same_meaning(x, threshold), MEANING)
    return book


def drop_leaks(source: Source, threshold: float, told: Told, book: Book) -> Book:
    texts = evaluation_prompts(source)
    rows = book.kept()
    keys = keys_of(book, rows)
    guard = Guard([key(text) for text in texts], threshold)
    for leak in guard.leaks(keys, signatures(keys, told)):
        book.drop(rows[leak.row], f"{LEAK}: {leak.how}", texts[leak.evaluation], leak.likeness)
    return book


def evaluation_prompts(source: Source) -> list[str]:
    """UserError for a row that cannot be read: its prompt would not be guarded."""
    found: list[str] = []
    for row in read(source.against, source.against_field):
        if isinstance(row, Bad):
            raise UserError(
                f"an evaluation prompt cannot be guarded: {row.source}:{row.line} {row.why}; "
                "repair or remove it"
            )
        found.append(normalised(row.text))
    if source.against and not found:
        names = ", ".join(map(str, source.against))
        raise UserError(f"{names}: there is no evaluation prompt in them")
    return found


def label(kinds: Taxonomy, embed: Path | None, book: Book) -> Book:
    n, rows = len(book), book.kept()
    for axis in kinds.axes:
        book.labels[axis], book.by[axis] = [None] * n, [None] * n
        book.sure[axis] = [None] * n
    for i in rows:
        put(book, i, kinds.classify(key(book.texts[i])))
    if embed is not None and rows:
        by_prototypes(book, rows, kinds, semantic.embedder(embed))
    return book


def by_prototypes(
    book: Book, rows: Sequence[int], kinds: Taxonomy, embed: semantic.Embedder
) -> None:
    """A label for what no rule tells, from rows whose rules agree."""
    x = embed([book.texts[i] for i in rows])
    for axis in kinds.axes:
        known = [book.labels[axis][i] if book.sure[axis][i] == 1 else None for i in rows]
        for i, (name, margin) in zip(rows, semantic.nearest(x, known), strict=False):
            if book.labels[axis][i] == OTHER:
                put(book, i, {axis: Label(name, margin, "prototype")})


def put(book: Book, i: int, found: Mapping[str, Label]) -> None:
    for axis, own in found.items():
        book.labels[axis][i], book.sure[axis][i] = own.name, own.sure
        book.by[axis][i] = own.by


def strata_of(book: Book, rows: Sequence[int]) -> list[Stratum]:
    """The labels of rows; those of rows that have none are "other"."""
    columns = list(book.labels.values())
    return [tuple(column[i] or OTHER for column in columns) for i in rows]


def fill_gaps(kinds: Taxonomy, source: Source, cfg: Curation, book: Book) -> Book:
    """New prompts, each of the kind that it was made for and within the rules, none of which
    repeats another word for word or leaks."""
    detect = detector_of(cfg.rules)
    rows = book.kept()
    strata = strata_of(book, rows)
    there = {key(text) for text in book.texts}
    members: dict[Stratum, list[str]] = {}
    for i, stratum in zip(rows, strata, strict=True):
        members.setdefault(stratum, []).append(book.texts[i])
    guard = Guard([key(text) for text in evaluation_prompts(source)], cfg.leak)
    for stratum, count in fill.wanting(Counter(strata), kinds, cfg.fill.floor).items():
        if cfg.fill.command is None:
            offered = fill.from_phrases(kinds, stratum, cfg.seed)
        else:
            examples = members.get(stratum, [])[:8]
            offered = fill.from_command(cfg.fill.command, kinds, stratum, count, examples)
        made = 0
        for line, text in enumerate(map(normalised, offered), 1):
            own = key(text)
            if made == count:
                break
            if own in there or not fill.fits(kinds, own, stratum):
                continue
            if cfg.rules.broken(text, detect) is not None:
                continue
            if guard.leaks([own], signatures([own])):
                continue
            there.add(own)
            book.add(text_hash(text), text, FILLED, line)
            put(book, len(book) - 1, kinds.classify(own))
            made += 1
    return book


def sample(cfg: Curation, book: Book) -> Book:
    rows = book.kept()
    strata, ids = strata_of(book, rows), [book.ids[i] for i in rows]
    wanted = allocate(Counter(strata), cfg.quota)
    taken = chosen(ids, strata, wanted, cfg.seed)
    for i in set(range(len(rows))) - set(taken):
        book.drop(rows[i], SURPLUS)
    own = split([ids[i] for i in taken], [strata[i] for i in taken], cfg.split, cfg.seed)
    for i, name in zip(taken, own, strict=True):
        book.splits[rows[i]] = name
    return book
