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


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    jsonl, csv, tsv, parquet = (tmp_path / f"a.{end}" for end in ("jsonl", "csv", "tsv", "parquet"))
    jsonl.write_text("".join(json.dumps({"n": 1, "caption": t}) + "\n" for t in TEXTS))
    quoted = ['"' + text.replace('"', '""') + '"' for text in TEXTS]
    csv.write_text("n,caption\n" + "".join(f"1,{t}\n" for t in quoted))
    tsv.write_text("n\tcaption\n" + "".join(f"1\t{t}\n" for t in quoted))
    pq.write_table(pa.table({"n": [1] * 4, "caption": TEXTS}), parquet)
    for path in (jsonl, csv, tsv, parquet):
        found = rows(path)
        assert [row.text for row in found if isinstance(row, Row)] == TEXTS, path
        assert {row.source for row in found} == {path.name}
    assert [row.line for row in rows(jsonl)] == [row.line for row in rows(parquet)] == [1, 2, 3, 4]
    assert rows(csv, jsonl) == rows(csv) + rows(jsonl)


def test_lines_of_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfa red bus\r\n\n  \nbroken \xff\xfe\nlast")
    assert rows(path) == [
        Row("a red bus", "a.txt", 1), Bad("a.txt", 4, "is not UTF-8"), Row("last", "a.txt", 5),
    ]  # fmt: skip


def test_bad_rows_are_told_and_good_ones_go_on(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"prompt": "one"}\nno json\n{"prompt": null}\n{"prompt": 7}\n{"prompt": "  "}\n'
        b'{"other": "x"}\n"bare"\n{"prompt": "\\ud800"}\n{"prompt": "two"}\n'
    )
    assert rows(path) == [
        Row("one", "a.jsonl", 1), Bad("a.jsonl", 2, "is no JSON"),
        Bad("a.jsonl", 3, "has no prompt"), Bad("a.jsonl", 4, "holds int where text is wanted"),
        Bad("a.jsonl", 5, "is empty"), Bad("a.jsonl", 6, "has no prompt"),
        Row("bare", "a.jsonl", 7), Bad("a.jsonl", 8, "is not UTF-8"), Row("two", "a.jsonl", 9),
    ]  # fmt: skip
    table = tmp_path / "a.csv"
    table.write_bytes(b"n,text\n1,one\n2,\xff\n3\n4,two\n")
    assert [type(row).__name__ for row in rows(table)] == ["Row", "Bad", "Bad", "Row"]


def test_a_field_is_found_or_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("title,prompt\nx,y\n")
    assert rows(path) == [Row("y", "a.csv", 2)]
    assert rows(path, field="title") == [Row("x", "a.csv", 2)]
    with pytest.raises(UserError, match="no field 'name', but title, prompt; name one"):
        rows(path, field="name")
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="none of the fields prompt, caption, text"):
        rows(path)


@pytest.mark.parametrize(("name", "data", "said"), [
    ("a.docx", b"x", "ends in .docx"), ("a.parquet", b"no parquet", "cannot be read"),
    ("a", b"x", "ends in nothing"),
])  # fmt: skip
def test_files_that_are_none(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=said):
        rows(tmp_path / name)
    with pytest.raises(UserError, match="cannot be read"):
        rows(tmp_path / "missing.txt")
