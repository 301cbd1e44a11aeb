import errno
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.disk import small_disk

from fewstep import machine
from fewstep.runs import Run, RunError, read_metrics

CONFIG = "seed: 0\n"


@pytest.fixture
def run(tmp_path):
    with Run.create(tmp_path / "run", CONFIG) as run:
        yield run


def no_space(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_a_run_is_a_directory(run):
    run.log(0, loss=1.0)
    present = {"config.yaml", "env.json", "metrics.jsonl", "samples", "checkpoints", ".lock"}
    assert names(run.directory) == present
    assert run.config_path.read_text() == CONFIG


def test_environment(tmp_path):
    with Run.create(tmp_path / "run", CONFIG, facts={"device": "cpu"}) as run:
        env = json.loads((run.directory / "env.json").read_text())
    assert env["python"] == ".".join(map(str, sys.version_info[:3]))
    assert env["versions"].keys() >= {"fewstep", "torch", "diffusers"}
    assert env["cpus"] == os.cpu_count()
    assert env["device"] == "cpu"


def test_commit_only_of_a_checkout(tmp_path):
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(tmp_path)]
    tracked, stray = tmp_path / "tracked.py", tmp_path / "stray.py"
    tracked.touch()
    stray.touch()
    for words in (["init", "-q"], ["add", "tracked.py"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    assert machine.git_commit(tracked) == head.stdout.strip()
    assert machine.git_commit(stray) is None


def test_rows_come_back_and_are_on_disk_at_once(run):
    run.log(0, loss=0.5, accuracy=[0.25, 1.0], note="warm-up")
    run.log(1, **{"heads/loss": 2})
    first, second = read_metrics(run.directory)  # by another reader, before close
    assert first.pop("time") > 1.6e9
    assert first == {"step": 0, "loss": 0.5, "accuracy": [0.25, 1.0], "note": "warm-up"}
    assert second["heads/loss"] == 2 and second["step"] == 1


def test_values_that_are_not_finite_are_valid_json(run):
    run.log(0, loss=math.nan, gap=[math.inf, -math.inf, 1.0])

    def refuse(word):
        raise AssertionError(word)

    json.loads(run.metrics_path.read_text(), parse_constant=refuse)
    (row,) = run.metrics()
    assert math.isnan(row["loss"]) and row["gap"] == [math.inf, -math.inf, 1.0]


def test_names_of_log_itself_are_refused(run):
    with pytest.raises(ValueError, match="'time'"):
        run.log(0, time=1.0)


def test_a_half_written_last_line_costs_that_line_only(tmp_path):
    with Run.create(tmp_path / "run", CONFIG) as run:
        run.log(0, loss=3.0)
        run.log(1, loss=2.0)
        path = run.metrics_path
    with path.open("ab") as file:
        file.write(b'{"step": 2, "lo')
    assert [r["step"] for r in read_metrics(run.directory)] == [0, 1]
    with Run.open(run.directory) as again:
        again.log(2, loss=1.0)
    assert [r["loss"] for r in read_metrics(run.directory)] == [3.0, 2.0, 1.0]


def test_any_other_broken_line_is_an_error(run):
    run.metrics_path.write_text('{"step": 0}\n{"st\n{"step": 2}\n')
    with pytest.raises(RunError, match="line 2 is not a row"):
        run.metrics()


def test_rewind_drops_later_rows_and_logging_goes_on(run):
    for step in range(5):
        run.log(step, loss=float(step))
        run.log(step, other=1.0)
    run.rewind(2)
    run.log(3, loss=30.0)
    assert [r["step"] for r in run.metrics()] == [0, 0, 1, 1, 2, 2, 3]
    assert run.metrics()[-1]["loss"] == 30.0
    run.rewind(-1)
    assert run.metrics() == []


def test_rewind_of_a_run_without_rows(run):
    run.rewind(3)
    assert run.metrics() == []


def test_create_overwrites_nothing(run):
    run.log(0, loss=1.0)
    run.close()
    with pytest.raises(RunError, match="already holds a run"):
        Run.create(run.directory, "seed: 1\n")
    assert run.config_path.read_text() == CONFIG
    assert len(read_metrics(run.directory)) == 1
    Run.open(run.directory).close()  # and the refusal left no lock behind


def test_open_needs_a_run(tmp_path):
    with pytest.raises(RunError, match="holds no run"):
        Run.open(tmp_path)
    assert names(tmp_path) == set()


def test_create_where_a_file_is(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot make the directory"):
        Run.create(tmp_path / "file" / "run", CONFIG)


@pytest.mark.fault(18)
def test_one_process_at_a_time(run):
    path = str(run.directory)
    code = f"from pathlib import Path; from fewstep.runs import Run; Run.open(Path({path!r}))"
    second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert second.returncode == 1
    last = second.stderr.strip().splitlines()[-1]
    assert f"in use by process {os.getpid()}" in last
    with pytest.raises(RunError, match="in use"):
        Run.open(run.directory)
    run.log(0, loss=1.0)
    run.close()
    Run.open(run.directory).close()


@pytest.mark.fault(18)
def test_a_killed_process_leaves_no_lock(tmp_path):
    code = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from fewstep.runs import Run
        run = Run.create(Path({str(tmp_path)!r}) / "run", "seed: 0")
        run.log(0, loss=1.0)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    with Run.open(tmp_path / "run") as run:
        assert run.metrics()[0]["loss"] == 1.0


def test_a_closed_run_refuses_to_write(run):
    run.close()
    run.close()
    with pytest.raises(RunError, match="was closed"):
        run.log(0, loss=1.0)


def test_log_on_a_planted_error_keeps_whole_rows(run, monkeypatch):
    run.log(0, loss=1.0)
    write = os.write

    def half(fd, data):
        if len(data) > 10:
            return write(fd, data[:10])
        no_space()

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(RunError, match=r"could not log .* the rows before are kept"):
            run.log(1, loss="a word that is long enough")
    assert run.metrics_path.read_bytes().count(b"\n") == 1
    run.log(1, loss=0.5)
    assert [r["loss"] for r in run.metrics()] == [1.0, 0.5]


def test_log_and_rewind_on_a_full_disk(tmp_path):
    with small_disk(tmp_path / "disk", "64k") as disk, Run.create(disk / "run", CONFIG) as run:
        step = 0
        with pytest.raises(RunError, match="could not log"):
            while step < 10_000:
                run.log(step, loss=1.0)
                step += 1
        assert [r["step"] for r in run.metrics()] == list(range(step))
        before = run.metrics_path.read_bytes()
        assert before.endswith(b"\n")
        with pytest.raises(RunError, match="could not write"):
            run.rewind(step - 2)
        assert run.metrics_path.read_bytes() == before


def test_nothing_here_imports_torch():
    code = "import sys, fewstep.runs, fewstep.claims; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
