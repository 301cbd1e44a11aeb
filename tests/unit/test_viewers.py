"""A viewer that hangs, fails or is missing neither stops training nor slows it down."""

from __future__ import annotations

import io
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from rich.console import Console
from tests.equivalence.test_resume import rows
from tests.games import Game, assert_same, new_run

from fewstep.train import viewers
from fewstep.train.viewers import Feed, numbers, watching


class Good:
    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []
        self.closed = False

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.seen.append((step, dict(values)))

    def close(self) -> None:
        self.closed = True


class Hangs(Good):
    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step >= 4:
            threading.Event().wait()
        super().log(step, values)


class Raises(Good):
    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step >= 4:
            raise ConnectionError("the server is down")
        super().log(step, values)


class NeverOpens(Good):
    def __init__(self) -> None:
        threading.Event().wait()


class Exits(Good):
    def close(self) -> None:
        sys.exit(3)


@pytest.mark.fault(20)
@pytest.mark.parametrize(
    ("kind", "said", "taken"),
    [
        (Good, None, "all"),
        (Hangs, "takes no rows: 4 wait for it", 0),
        (Raises, "has failed (ConnectionError: the server is down)", 0),
        (NeverOpens, "takes no rows: 4 wait for it", 0),
        (Exits, "has failed (SystemExit: 3)", "all"),
    ],
)
def test_training_does_not_know_of_its_viewer(
    kind: type[Good], said: str | None, taken: object, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    alone, watched = Game(), Game()
    with new_run(tmp_path / "a") as run:
        alone.train(run, log_every=1)
    made: list[Good] = []

    def open_viewer(name: str, directory: Path) -> Good:
        assert (name, directory) == ("trackio", tmp_path / "b")
        made.append(kind())
        return made[0]

    monkeypatch.setattr(viewers, "open_viewer", open_viewer)
    monkeypatch.setattr(viewers, "WAITING", 4 if taken == 0 else 1000)
    monkeypatch.setattr(viewers, "PATIENCE", 0.3)
    out = io.StringIO()
    start = time.monotonic()
    with new_run(tmp_path / "b") as run:
        with watching(run, "trackio", Console(file=out, width=300)):
            watched.train(run, log_every=1)
        assert run.watchers == []
    assert time.monotonic() - start < 20
    assert_same(alone.state(), watched.state())
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    lines = out.getvalue().splitlines()
    warnings = [line for line in lines if line.startswith("warning: ")]
    count = len(rows(tmp_path / "b"))
    if said is None:
        assert lines == [] and made[0].closed
    else:
        assert warnings == [f"warning: trackio: the viewer {said}; training goes on, and "
                            "metrics.jsonl has every row"]  # fmt: skip
    if taken == "all":
        assert len(made[0].seen) == count and len(lines) == len(warnings)
        assert made[0].seen[0][0] == 1 and "heads/loss" in made[0].seen[0][1]
    else:
        seen = len(made[0].seen) if made else 0
        assert seen < count
        assert lines[-1] == (
            f"trackio has not taken {count - seen} of {count} rows; all are in "
            f"{tmp_path / 'b' / 'metrics.jsonl'}"
        )


@pytest.mark.fault(20)
def test_a_library_that_is_missing_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)  # as if it were not installed
    out = io.StringIO()
    with (
        new_run(tmp_path / "a") as run,
        watching(run, "trackio", Console(file=out, width=300)),
    ):
        run.log(1, phase="a", loss=1.0)
    first, second = out.getvalue().splitlines()
    assert first.startswith("warning: trackio: the viewer has failed (ModuleNotFoundError: ")
    assert second.startswith("trackio has not taken 1 of 1 rows")


@pytest.mark.fault(20)
def test_a_process_ends_though_its_viewer_does_not() -> None:
    program = textwrap.dedent("""
        import time
        from fewstep.train.viewers import Feed

        class Hangs:
            def log(self, step, values): time.sleep(1e6)
            def close(self): pass

        feed = Feed(Hangs, print)
        feed.put({"step": 1, "loss": 1.0})
        feed.close(patience=0.2)
        print(feed.dropped)
    """)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    first, second = done.stdout.splitlines()
    assert first.startswith("the viewer does not end within 0.2 s;") and second == "1"


def test_a_slow_viewer_gets_its_time_at_the_end() -> None:
    viewer = Good()
    slow: Callable[[], Good] = lambda: time.sleep(0.5) or viewer  # noqa: E731
    feed = Feed(slow, pytest.fail)
    for step in range(50):
        feed.put({"step": step, "loss": 1.0})
    assert not viewer.seen
    feed.close(patience=30)
    assert [step for step, _ in viewer.seen] == list(range(50))
    assert viewer.closed and feed.dropped == 0


def test_what_of_a_row_is_drawn() -> None:
    row = {
        "step": 3, "time": 1.0, "phase": "heads", "loss": 0.5, "by_head": [1.0, float("nan")],
        "updates": 7, "note": "x", "good": True, "bad": float("inf"),
    }  # fmt: skip
    assert numbers(row) == {"heads/loss": 0.5, "heads/by_head/0": 1.0, "heads/updates": 7.0}
