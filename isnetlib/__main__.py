"""The command `isnet`: run a study, tell its state, make its report, prepare and check data set folders, audit."""

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from isnetlib.report.store import Damaged
from isnetlib.study import runner
from isnetlib.study.config import StudyError, read_studies
from isnetlib.study.runs import PACKAGE, STATES


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 all is well, 1 something failed or is not done, 2 a mistake in the request, 130 interrupted."""
    options = _parser().parse_args(arguments)
    try:
        with _termination_as_interrupt():
            return options.command(options)
    except (StudyError, Damaged, OSError) as error:  # OSError names its file
        print(f"isnet: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("isnet: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="isnet", description="Studies of notebooks/study.yaml; your own images.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function, text: str) -> argparse.ArgumentParser:
        own = commands.add_parser(name, help=text.partition("?")[0] + "?" * ("?" in text), description=text)
        own.set_defaults(command=function)
        return own

    def of_study(own: argparse.ArgumentParser, required: bool = True) -> argparse.ArgumentParser:
        default = PACKAGE.parent  # a clone holds the package, the notebooks and the results side by side
        own.add_argument("--study", required=required, metavar="NAME", help="a study of study.yaml")
        own.add_argument("--results", type=Path, default=default / "results", metavar="DIR", help="where results lie")
        own.add_argument("--notebooks", type=Path, default=default / "notebooks", metavar="DIR", help="with study.yaml")
        return own

    def of_columns(own: argparse.ArgumentParser) -> None:
        own.add_argument("--label", default="label", metavar="COLUMN", help="column of class names; default: label")
        own.add_argument("--patient", default="patient", metavar="COLUMN", help="names the patient; default: patient")
        own.add_argument("--no-patient", action="store_const", dest="patient", const=None, help="patients are unknown")

    run = of_study(command("run", _run, "Make every run of a study that is not done, pack them, and make its report."))
    run.add_argument("--jobs", type=_positive, metavar="N", help="runs at a time; default: 2 where there are 2 cores")
    run.add_argument("--only", nargs="+", default=(), metavar="NAME", help="these methods, experiments, seed0, ...")
    run.add_argument("--threads", type=_positive, metavar="N", help="cores of a run; default: all, shared by the jobs")
    run.add_argument("--runs-only", action="store_true", help="pack and report nothing")
    text = "Count done, unfinished, missing and stale runs: a line a study, with --study a line a method."
    of_study(command("status", _status, text), required=False)
    text = "Make tables, figures and report anew from the results of the runs; without --study all that are published."
    of_study(command("report", _report, text), required=False)
    prepare = command("prepare", _prepare, "Turn a public data set, as its publisher ships it, into a data set folder.")
    prepare.add_argument("source", metavar="SOURCE", help="montgomery, nih, ...; a wrong name lists all")
    prepare.add_argument("folder", type=Path, metavar="FOLDER", help="the publisher's files, unpacked; only read")
    prepare.add_argument("out", type=Path, metavar="OUT", help="the folder to make")
    prepare.add_argument("--size", type=int, default=512, metavar="N", help="longer side in pixels; 0: as published")
    prepare.add_argument("--partial", action="store_true", help="FOLDER is a part: leave out what is missing")
    verify = command("verify-data", _verify_data, "Check a data set folder: index.csv and its files.")
    verify.add_argument("folder", type=Path, metavar="FOLDER")
    verify.add_argument("--attributes", nargs="+", default=(), metavar="COLUMN", help="0/1 columns instead of a label")
    of_columns(verify)
    text = """Does a trained classifier depend on the background? Prints a word and writes one HTML page. depends:
    swapped or removed backgrounds cost performance; undecided: too few images or too weak a model to tell; look closer:
    performance holds, but much relevance lies outside the masks; not shown: none of these."""
    audit = command("audit", _audit, text)
    own = "of a run or of fit (checkpoints/swapped.pt), or a state_dict of torchvision's; pixels in [0, 1]"
    audit.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help=own)
    own = "a data set folder with masks, of images that the model was not trained on"
    audit.add_argument("--data", type=Path, required=True, metavar="FOLDER", help=own)
    audit.add_argument("--out", type=Path, default=Path("audit.html"), metavar="FILE", help="default: audit.html")
    audit.add_argument("--backbone", metavar="NAME", help="network of a state_dict, such as densenet121")
    audit.add_argument("--classes", nargs="+", metavar="NAME", help="in the order of the outputs")
    audit.add_argument("--size", type=_positive, metavar="N", help="side of the images in pixels")
    audit.add_argument("--equalise", action=argparse.BooleanOptionalAction, help="equalise histograms, as in training")
    of_columns(audit)
    return parser


def _run(options: argparse.Namespace) -> int:
    place = (options.notebooks, options.results)
    failed = runner.run_study(
        options.study, *place, options.jobs, options.only, options.threads, runs_only=options.runs_only
    )
    return 1 if failed else 0


def _status(options: argparse.Namespace) -> int:
    place = (options.notebooks, options.results)
    names = [options.study] if options.study else list(read_studies(options.notebooks)["studies"])
    found = pd.concat([runner.status(name, *place) for name in names])
    group = ["study", "experiment", "method"] if options.study else ["study"]
    counts = pd.crosstab([found[column] for column in group], found["state"]).reindex(columns=STATES, fill_value=0)
    print(found[group].drop_duplicates().merge(counts.reset_index(), on=group).to_string(index=False))
    for run in found[found["state"] == "stale"].itertuples():
        print(f"stale: {run.study} {run.experiment}/{run.method}/seed{run.seed}: {run.reason}")
    return 0 if (found["state"] == "done").all() else 1


def _report(options: argparse.Namespace) -> int:
    return 1 if runner.report(options.notebooks, options.results, options.study) else 0


def _prepare(options: argparse.Namespace) -> int:
    from isnetlib.data import sources  # imports torch, which the commands above can do without

    try:
        left_out = sources.prepare(options.source, options.folder, options.out, options.size, options.partial)
    except (sources.SourceError, ImportError) as error:
        raise StudyError(str(error)) from None
    print(sources.card(options.source), end="")
    table = pd.read_csv(options.out / "index.csv", dtype=str, keep_default_na=False)
    masks, some = (table["mask"] != "").sum(), " (see left_out.csv)" if len(left_out) else ""
    print(f"{options.out}: {len(table)} images, {masks} with a mask; {len(left_out)} left out{some}")
    return 0


def _verify_data(options: argparse.Namespace) -> int:
    from isnetlib.data.folder import verify

    if not options.folder.is_dir():
        raise StudyError(f"{options.folder} is not a folder")
    try:
        columns = {name: getattr(options, name) for name in ("label", "attributes", "patient")}
        problems = verify(options.folder, **columns)
    except ValueError as error:
        raise StudyError(str(error)) from None
    for level, file, row, problem, remedy in problems.itertuples(index=False):
        print(f"{level}: {file}{f', row {row}' if row else ''}: {problem}; {remedy}")
    print(f"{options.folder}: {'no problem found' if problems.empty else f'{len(problems)} problems'}")
    return 1 if (problems["level"] == "error").any() else 0


def _audit(options: argparse.Namespace) -> int:
    from isnetlib.audit import audit

    columns = (options.label, options.patient)
    how = {name: getattr(options, name) for name in ("backbone", "classes", "size", "equalise")}
    try:
        found = audit(options.checkpoint, options.data, options.out, *columns, **how)
    except ValueError as error:
        raise StudyError(str(error)) from None
    print(f"{found['verdict']}\n{options.out}")
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


@contextlib.contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """End in order, notebooks included, when the terminal is closed or a scheduler says stop, as at Ctrl-C. A signal
    that is ignored, as nohup has it, stays so.
    """
    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in signals}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
