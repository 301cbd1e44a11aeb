"""Every format gives the same rows, and a bad row is told by file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fewstep.curation.read import Bad, Found, Row, read
from fewstep.errors import UserError

TEXTS = [
    "a red bus",
    'a "quoted" sign, in two\nlines',
    "\u732b \U0001f431",
    "\u05e9\u05dc\u05d5\u05dd",
]


def rows(*paths: Path, field: str | None = None) -> list[Found]:
    return list(read(paths, field))


@pytest.mark.fault(19)
def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    jsonl, csv, tsv, parquet = (tmp_path / f"a.{end}" for end in ("jsonl", "csv", "tsv", "parquet"))
    jsonl.write_text("".join(json.dumps({"n": 1, "Caption": t}) + "\n" for t in TEXTS))
    quoted = ['"' + text.replace('"', '""') + '"' for text in TEXTS]
    csv.write_text("n,Caption\n" + "".join(f"1,{t}\n" for t in quoted))
    table = pa.table({"n": [1] * 4, "Caption": pa.array(TEXTS).dictionary_encode()})
    pq.write_table(table, parquet)
    for path in (jsonl, csv, parquet):
        found = rows(path)
        assert [row.text for row in found if isinstance(row, Row)] == TEXTS, path
        assert {row.source for row in found} == {path.name}
    assert [row.line for row in rows(jsonl)] == [row.line for row in rows(parquet)] == [1, 2, 3, 4]
    assert rows(csv, jsonl) == rows(csv) + rows(jsonl)
    tsv.write_text('n\tPrompt\n1\ta "quoted" bus\n2\t"a fox\n')
    assert [row.text for row in rows(tsv) if isinstance(row, Row)] == ['a "quoted" bus', '"a fox']


@pytest.mark.fault(19)
def test_lines_of_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfa red bus\r\n\r  \nbroken \xff\xfe\nlast")
    assert rows(path) == [
        Row("a red bus", "a.txt", 1), Bad("a.txt", 4, "is not UTF-8"), Row("last", "a.txt", 5),
    ]  # fmt: skip


@pytest.mark.fault(19)
def test_bad_rows_are_told_and_good_ones_go_on(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"prompt": "one"}\nno json\n{"prompt": null}\n{"prompt": 7}\n{"prompt": "  "}\n'
        b'{"other": "x"}\n"bare"\n{"prompt": "\\ud800"}\n{"prompt": "two"}\n'
    )
    assert rows(path) == [
        Row("one", "a.jsonl", 1), Bad("a.jsonl", 2, "is no JSON"),
        Bad("a.jsonl", 3, "has no prompt"), Bad("a.jsonl", 4, "holds int where text is wanted"),
        Bad("a.jsonl", 5, "is empty"), Bad("a.jsonl", 6, "has no prompt or caption or text"),
        Row("bare", "a.jsonl", 7), Bad("a.jsonl", 8, "is not UTF-8"), Row("two", "a.jsonl", 9),
    ]  # fmt: skip
    deep = tmp_path / "deep.jsonl"
    deep.write_text("[" * 100_000 + "\n" + '{"caption": "a"}\n{"prompt": "b"}\n')
    assert rows(deep)[0] == Bad("deep.jsonl", 1, "is no JSON")
    assert [row.text for row in rows(deep) if isinstance(row, Row)] == ["a", "b"]


def test_cells_that_do_not_fit_are_no_prompts(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_bytes(b"n,text\n1,one\n2,\xff\n3\n4,a cat, on a mat\n5,two\n")
    assert [row.why if isinstance(row, Bad) else row.text for row in rows(table)] == [
        "one", "is not UTF-8", "has no text", "has more cells than the head", "two",
    ]  # fmt: skip
    table.write_text('text\n"a dog\na fish\na bird\n')
    with pytest.raises(UserError, match="cannot be read: unexpected end of data"):
        rows(table)
    parquet = tmp_path / "a.parquet"
    broken = pa.Array.from_buffers(
        pa.string(),
        2,
        [None, pa.array([0, 3, 5], pa.int32()).buffers()[1], pa.py_buffer(b"one\xff\xfe")],
    )
    pq.write_table(pa.table({"text": broken}), parquet)
    assert rows(parquet) == [Row("one", "a.parquet", 1), Bad("a.parquet", 2, "is not UTF-8")]


def test_a_field_is_found_or_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("title,prompt\nx,y\n")
    assert rows(path) == [Row("y", "a.csv", 2)]
    assert rows(path, field="title") == [Row("x", "a.csv", 2)]
    with pytest.raises(UserError, match="no column 'name', but title, prompt; name one"):
        rows(path, field="name")
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="none of the columns prompt, caption, text"):
        rows(path)


@pytest.mark.parametrize(("name", "data", "said"), [
    ("a.docx", b"x", "ends in .docx"), ("a.parquet", b"no parquet", "cannot be read"),
    ("a", b"x", "ends in nothing"), ("a.txt", "a red bus".encode("utf-16"), "is UTF-16"),
    ("a.csv", b"te\x00xt", "is UTF-16 or no text"),
])  # fmt: skip
def test_files_that_are_none(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=said):
        rows(tmp_path / name)
    with pytest.raises(UserError, match="cannot be read"):
        rows(tmp_path / "missing.txt")
