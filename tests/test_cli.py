"""The command isnet: what it prints, its exit codes, and mistakes told in one line."""

import os
import re
import signal
import subprocess
import sys

import pandas as pd
import pytest
from tiny_study import edit, make_run

from isnetlib.__main__ import _termination_as_interrupt, main
from isnetlib.study import runs


@pytest.fixture
def options(place, monkeypatch):
    """--notebooks and --results of the tiny studies, whose data are absent."""
    monkeypatch.setattr(runs, "data_hashes", lambda run, needed=False: {})
    return ["--notebooks", str(place[0]), "--results", str(place[1])]


def test_status_counts_and_exits_with_1_unless_all_are_done(place, options, capsys):
    assert main(["status", *options]) == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    counted = ["done", "unfinished", "missing", "stale"]
    assert lines == [["study", *counted], ["mixed", "0", "0", "4", "0"], ["fine", "0", "0", "1", "0"]]
    assert main(["status", "--study", "mixed", *options]) == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["study", "experiment", "method", *counted],
        ["mixed", "digits", "standard", "0", "0", "2", "0"],
        ["mixed", "digits", "rrr", "0", "0", "1", "0"],
        ["mixed", "digits", "gain", "0", "0", "1", "0"],
    ]
    make_run(place, "fine", "standard", 0)
    assert main(["status", "--study", "fine", *options]) == 0  # the data are absent, and that makes nothing stale
    assert main(["status", *options]) == 1
    capsys.readouterr()
    edit(place[0] / "study.yaml", "epochs: 9", "epochs: 8")
    assert main(["status", "--study", "fine", *options]) == 1
    assert "stale: fine digits/standard/seed0: parameter epochs was 9, is 8" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--study", "three"], r"there is no study 'three'; study.yaml has: mixed, fine"),
        (["status", "--study", "three"], r"there is no study 'three'; study.yaml has: mixed, fine"),
        (["report", "--study", "three"], r"there is no study 'three'; study.yaml has: mixed, fine"),
        (["report", "--study", "fine"], r"fine: no finished run in .*; first: isnet run --study fine"),
        (["run", "--study", "mixed", "--only", "gain", "vit"], r"no run of study mixed is called vit; one is called "),
    ],
)
def test_a_wrong_request_is_told_in_one_line(options, capsys, arguments, message):
    assert main([*arguments, *options]) == 2
    captured = capsys.readouterr()
    assert re.match(f"isnet: {message}", captured.err) and captured.err.count("\n") == 1
    assert captured.out == ""


def test_results_that_cannot_be_written_are_told_in_one_line(place, options, capsys):
    place[1].write_text("a file")
    assert main(["run", "--study", "fine", *options]) == 1
    printed = capsys.readouterr()
    assert re.search("FAILED digits/standard/seed0: .*results", printed.out) and not printed.err


def test_missing_folders_and_sources_are_told_in_one_line(tmp_path, capsys):
    gone = str(tmp_path / "nowhere")
    for arguments, message in (
        (["status", "--notebooks", gone], "study.yaml does not exist: call isnet inside a clone"),
        (["verify-data", gone], f"isnet: {gone} is not a folder\n"),
        (["prepare", "nobody", gone, str(tmp_path / "out")], "'nobody'"),
        (["audit", gone, "--data", gone], "nowhere"),
    ):
        assert main(arguments) == 2, arguments
        captured = capsys.readouterr().err
        assert message in captured and captured.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["run"], ["run", "--study", "one", "--jobs", "0"], ["train"]])
def test_a_wrong_command_line_shows_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2 and capsys.readouterr().err.startswith("usage: isnet")


def test_memory_that_does_not_suffice_is_told_and_other_errors_are_not_hidden(monkeypatch, capsys):
    for error, code in ((type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), 2), (MemoryError(), 2)):
        monkeypatch.setattr("isnetlib.own.train", lambda *_, error=error, **__: (_ for _ in ()).throw(error))
        assert main(["train", "--data", "a", "--out", "b"]) == code
        assert "out of memory: take a smaller --batch-size" in capsys.readouterr().err
    monkeypatch.setattr("isnetlib.own.train", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        main(["train", "--data", "a", "--out", "b"])
    with pytest.raises(SystemExit):
        main(["train", "--data", "a", "--out", "b", "--size", "0"])
    assert "'0' is no whole number from 1 on" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "status", "report", "prepare", "verify-data", "audit"])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0 and f"usage: isnet {command}" in capsys.readouterr().out


def test_verify_data_lists_what_is_wrong(tmp_path, capsys):
    table = {"image": ["gone.png"], "mask": [""], "label": ["a"], "source": ["here"], "patient": ["p1"]}
    pd.DataFrame(table).to_csv(tmp_path / "index.csv", index=False)
    assert main(["verify-data", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert re.search(r"^error: gone.png, row 2: file is missing; ", out, flags=re.MULTILINE)
    assert re.search(f"^{re.escape(str(tmp_path))}: [0-9]+ problems?$", out, flags=re.MULTILINE)


def test_status_and_report_need_no_torch():
    code = "import sys; import isnetlib.__main__, isnetlib.report.tables; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_signal_that_is_ignored_stays_ignored_and_another_interrupts():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with _termination_as_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt), _termination_as_interrupt():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, before)
