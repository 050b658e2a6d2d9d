"""The command isnet: what it prints, its exit codes, and mistakes told in one line."""

import os
import re
import signal
from unittest import mock

import pytest
from tiny_study import edit, make_run

from isnetlib.__main__ import _interrupt_on_termination, main
from isnetlib.study import runs


@pytest.fixture
def options(place, monkeypatch):
    """--notebooks and --results of the tiny studies, whose data are absent."""
    monkeypatch.setattr(runs, "data_hashes", lambda run, needed=False: {})
    return ["--notebooks", str(place[0]), "--results", str(place[1])]


def test_status_counts_and_exits_with_1_unless_all_are_done(place, options, capsys):
    def told():
        return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]

    assert main(["status", *options]) == 1
    assert told() == ["study done unfinished missing stale", "mixed 0 0 4 0", "fine 0 0 1 0"]
    assert main(["status", "--study", "mixed", *options]) == 1
    head, *rows = told()
    assert head == "study experiment method done unfinished missing stale"
    assert rows == [f"mixed digits {counts}" for counts in ("standard 0 0 2 0", "rrr 0 0 1 0", "gain 0 0 1 0")]
    make_run(place, "fine", "standard", 0)
    assert main(["status", "--study", "fine", *options]) == 0  # the data are absent, and that makes nothing stale
    assert main(["status", *options]) == 1
    edit(place[0] / "study.yaml", "epochs: 9", "epochs: 8")
    assert main(["status", "--study", "fine", *options]) == 1
    assert told()[-1] == "stale: fine digits/standard/seed0: parameter epochs was 9, is 8"


def test_a_wrong_request_is_told_in_one_line(options, capsys):
    unknown = "there is no study 'three'; study.yaml has: mixed, fine"
    for arguments, message in (
        *((f"{command} --study three", unknown) for command in ("run", "status", "report")),
        ("report --study fine", "fine: no finished run in .*; first: isnet run --study fine"),
        ("run --study mixed --only gain vit", "no run of study mixed is called vit; one is called "),
    ):
        assert main([*arguments.split(), *options]) == 2
        out, told = capsys.readouterr()
        assert re.match(f"isnet: {message}", told) and told.count("\n") == 1 and out == ""


def test_folders_and_sources_that_are_missing_or_cannot_be_written_are_told_in_one_line(place, options, capsys):
    place[1].write_text("a file")
    gone = str(place[1].with_name("nowhere"))
    for arguments, message in (
        (["run", "--study", "fine", *options], f"{place[1]}"),
        (["status", "--notebooks", gone], "study.yaml is not valid: [Errno 2] No such file"),
        (["verify-data", gone], f"isnet: {gone} is not a folder\n"),
        (["prepare", "nobody", gone, f"{gone}/out"], "'nobody'"),
        (["audit", gone, "--data", gone], "nowhere"),
    ):
        assert main(arguments) == 2, arguments
        told = capsys.readouterr().err
        assert told.startswith("isnet: ") and message in told and told.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["run"], ["run", "--study", "one", "--jobs", "0"], ["train"]])
def test_a_wrong_command_line_shows_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2 and capsys.readouterr().err.startswith("usage: isnet")


def test_memory_that_does_not_suffice_is_told_and_other_errors_are_not_hidden(monkeypatch, capsys):
    given = ["train", "--data", "a", "--out", "b"]
    of_cuda = type("OutOfMemoryError", (RuntimeError,), {})("CUDA")
    raising = mock.Mock(side_effect=[of_cuda, MemoryError(), RuntimeError("a bug")])
    monkeypatch.setattr("isnetlib.own.train", raising)
    for _ in range(2):
        assert main(given) == 2
        assert "out of memory: take a smaller --batch-size" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="a bug"):
        main(given)
    with pytest.raises(SystemExit):
        main([*given, "--size", "0"])
    assert "'0' is no whole number from 1 on" in capsys.readouterr().err


@pytest.mark.parametrize("command", "train predict audit export prepare verify-data run status report".split())
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0 and f"usage: isnet {command}" in capsys.readouterr().out


def test_a_signal_that_is_ignored_stays_ignored_and_another_interrupts():
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        _interrupt_on_termination()
        os.kill(os.getpid(), signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
