"""The command `isnet`, for your own images and for studies. What it takes is listed in commands.yaml."""

import argparse
import contextlib
import signal
import sys
import warnings
from pathlib import Path

import pandas as pd
import yaml

from isnetlib.study import runner
from isnetlib.study.config import StudyError, read_studies
from isnetlib.study.runs import STATES

PIPELINE = "notebooks/pipeline"  # of a clone


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 all is well, 1 something failed or is not done, 2 a mistake in the request, 130 interrupted."""
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command")
    warnings.formatwarning = lambda message, *_, **__: f"isnet: {message}\n"
    with contextlib.suppress(AttributeError):  # a line at a time, into a file too
        sys.stdout.reconfigure(line_buffering=True)
    _interrupt_on_termination()
    try:
        return command(**options)
    except (ValueError, OSError, ImportError, ArithmeticError, NotImplementedError) as error:  # OSError names its file
        code, told = 2, "\n".join(" ".join(line.split()) for line in str(error).splitlines())
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and type(error).__name__ != "OutOfMemoryError":
            raise
        code, told = 2, "out of memory: take a smaller --batch-size, --size or --backbone"
    except KeyboardInterrupt:
        code, told = 130, "interrupted; the same train or run goes on from here"
    print("isnet:", told, file=sys.stderr)
    return code


def _interrupt_on_termination() -> None:
    """End as at Ctrl-C, notebooks included, when a terminal closes or a scheduler says stop, but not under nohup."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def _parser() -> argparse.ArgumentParser:
    """Of commands.yaml; the option `command` is the function that does it."""
    table = yaml.safe_load(Path(__file__).with_name("commands.yaml").read_text(encoding="utf-8"))
    types = {"path": Path, "count": _positive, "int": int, "float": float}
    parser = argparse.ArgumentParser(prog="isnet", description=table["isnet"]["help"])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for function in (_train, _predict, _audit, _export, _prepare, _verify_data, _run, _status, _report):
        name = function.__name__.strip("_").replace("_", "-")
        text, more = table[name]["help"], table[name].get("more", "")
        command = commands.add_parser(name, help=text, description=f"{text} {more}")
        command.set_defaults(command=function)
        for group in (name, *table[name].get("shared", ())):
            for option, how in table[group]["options"].items():
                command.add_argument(option, **how | ({"type": types[how["type"]]} if "type" in how else {}))
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


# --- your own images; torch is imported only here, since states and reports of studies can do without
def _train(data, out, test, weights, device, **how) -> int:
    from isnetlib import audit, own

    tests = own.train(data, out, tests=test, weights=None if weights == "none" else weights, device=device, **how)
    for name, word in audit.compare(out, tests, own.pick(device)).items():
        print(f"{name}: {word}")
    print(out / "report.html")
    return 0


def _predict(run, images, out, heatmaps, device) -> int:
    from isnetlib import own

    unread = own.predict(run, images, out, heatmaps, device, lambda line: print("isnet:", line, file=sys.stderr))
    print(out)
    return min(1, unread)


def _audit(checkpoint, data, out, **how) -> int:
    from isnetlib.audit import audit

    print(audit(checkpoint, data, out, **how)["verdict"], out, sep="\n")
    return 0


def _export(run, onnx) -> int:
    from isnetlib.deploy import export

    print(*export(run, onnx), sep="\n")
    return 0


def _prepare(source, folder, out, size, partial) -> int:
    from isnetlib.data import sources

    left_out = sources.prepare(source, folder, out, size, partial)
    print((out / "card.txt").read_text(encoding="utf-8"), end="")
    table = pd.read_csv(out / "index.csv", dtype=str, keep_default_na=False)
    masks, some = (table["mask"] != "").sum(), " (see left_out.csv)" if len(left_out) else ""
    print(f"{out}: {len(table)} images, {masks} with a mask; {len(left_out)} left out{some}")
    return 0


def _verify_data(folder, **columns) -> int:
    from isnetlib.data.folder import verify

    if not folder.is_dir():
        raise StudyError(f"{folder} is not a folder")
    problems = verify(folder, **columns)
    for level, file, row, problem, remedy in problems.itertuples(index=False):
        print(f"{level}: {file}{f', row {row}' if row else ''}: {problem}; {remedy}")
    print(f"{folder}: {len(problems) or 'no'} problem{'s' * (len(problems) != 1)}")
    return int((problems["level"] == "error").any())


# --- studies
def _place(notebooks: Path | None, results: Path | None) -> tuple[Path, Path]:
    """The folders of the notebooks and of the results."""
    if notebooks:
        return notebooks, results or notebooks.parent / "results"
    for clone in (Path.cwd(), *Path.cwd().parents):
        if (clone / PIPELINE / "study.yaml").is_file():
            return clone / PIPELINE, results or clone / "results"
    raise StudyError(f"no {PIPELINE}/study.yaml here or above: call isnet in a clone, or give --notebooks")


def _run(study, notebooks, results, **how) -> int:
    return min(1, runner.run_study(study, *_place(notebooks, results), **how))


def _status(study, notebooks, results) -> int:
    place = _place(notebooks, results)
    names = [study] if study else list(read_studies(place[0])["studies"])
    found = pd.concat([runner.status(name, *place) for name in names])
    group = ["study", "experiment", "method"] if study else ["study"]
    counts = pd.crosstab([found[column] for column in group], found["state"]).reindex(columns=STATES, fill_value=0)
    print(found[group].drop_duplicates().merge(counts.reset_index(), on=group).to_string(index=False))
    for run in found[found["state"] == "stale"].itertuples():
        print(f"stale: {run.study} {run.experiment}/{run.method}/seed{run.seed}: {run.reason}")
    return int((found["state"] != "done").any())


def _report(study, notebooks, results) -> int:
    return min(1, runner.report(*_place(notebooks, results), study))


if __name__ == "__main__":
    sys.exit(main())
