"""The folder of an evaluation is held by one process, and is gone if nothing came into it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fewstep.errors import UserError
from fewstep.evaluate.folder import held
from fewstep.runs import RunError

ELSEWHERE = """
import sys
from pathlib import Path
from fewstep.evaluate.folder import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_another_process_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    words = [sys.executable, "-c", ELSEWHERE, str(folder)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin and other.stdout and other.stdout.readline() == "held\n"
        said = f"quick is in use by process {other.pid}; wait for it to end or choose another"
        with pytest.raises(RunError, match=said), held(folder):
            pass
        other.kill()  # the lock vanishes with its process
        other.wait()
    with held(folder):
        (folder / "evaluation.json").write_text("{}")
    assert (folder / "evaluation.json").is_file()


def test_a_folder_that_stays_empty_is_taken_away_and_nothing_else_is(tmp_path: Path) -> None:
    with held(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").mkdir()
    with pytest.raises(ZeroDivisionError), held(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert list(tmp_path.rglob("*")) == [tmp_path / "a"]
    with held(tmp_path / "a"):  # it was there before
        pass
    assert (tmp_path / "a").is_dir()
    with held(tmp_path / "c"):
        (tmp_path / "c" / "pictures").mkdir()
    assert (tmp_path / "c" / "pictures").is_dir()


def test_what_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "deeper"
    with pytest.raises(UserError, match=f"cannot make the folder {folder}: Not a"), held(folder):
        pass
