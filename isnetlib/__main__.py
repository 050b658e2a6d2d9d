"""The command `isnet`: run a study, tell its state, make its report, prepare and check data set folders."""

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from isnetlib import search
from isnetlib.provenance import PACKAGE
from isnetlib.rebuild import report, report_all
from isnetlib.runner import run_study
from isnetlib.study import STATES, StudyError, read_studies, status


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 all is well, 1 something failed or is not done, 2 a mistake in the request, 130 interrupted."""
    options = _parser().parse_args(arguments)
    try:
        with _termination_as_interrupt():
            return options.command(options)
    except StudyError as error:
        print(f"isnet: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("isnet: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="isnet", description="Run the studies of notebooks/study.yaml.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function, text: str) -> argparse.ArgumentParser:
        own = commands.add_parser(name, help=text, description=text)
        own.set_defaults(command=function)
        return own

    def of_study(own: argparse.ArgumentParser, required: bool = True) -> argparse.ArgumentParser:
        default = PACKAGE.parent  # a clone holds the package, the notebooks and the results side by side
        own.add_argument("--study", required=required, metavar="NAME", help="a study of study.yaml")
        own.add_argument("--results", type=Path, default=default / "results", metavar="DIR", help="where results lie")
        own.add_argument("--notebooks", type=Path, default=default / "notebooks", metavar="DIR", help="with study.yaml")
        return own

    run = of_study(command("run", _run, "Make every run of a study that is not done, then its tables and report."))
    run.add_argument("--jobs", type=_positive, metavar="N", help="runs at a time; default: 2 where there are 2 cores")
    run.add_argument(
        "--only", nargs="+", default=(), metavar="NAME", help="only these methods, experiments, seed0, ..."
    )
    run.add_argument("--threads", type=_positive, metavar="N", help="cores of a run; default: all, shared by the jobs")
    run.add_argument("--runs-only", action="store_true", help="leave out the study's tables, figures and report")
    of_study(command("status", _status, "Count done, unfinished, missing and stale runs."), required=False)
    text = "Make tables, figures and report anew from the files of the runs; without --study of every published study."
    of_study(command("report", _report, text), required=False)
    prepare = command("prepare", _prepare, "Turn a public data set, as its publisher ships it, into a data set folder.")
    prepare.add_argument("source", metavar="SOURCE", help="montgomery, nih, ...; a wrong name lists all")
    prepare.add_argument("folder", type=Path, metavar="FOLDER", help="the publisher's files, unpacked; only read")
    prepare.add_argument("out", type=Path, metavar="OUT", help="the folder to make")
    prepare.add_argument("--size", type=int, default=512, metavar="N", help="longer side in pixels; 0: as published")
    prepare.add_argument("--partial", action="store_true", help="FOLDER is a part: leave out what is missing")
    verify = command("verify-data", _verify_data, "Check a data set folder: index.csv and its files.")
    verify.add_argument("folder", type=Path)
    verify.add_argument("--label", default="label", metavar="COLUMN", help="column of class names; default: label")
    verify.add_argument("--attributes", nargs="+", default=(), metavar="COLUMN", help="0/1 columns instead of a label")
    verify.add_argument("--patient", default="patient", metavar="COLUMN", help="names the patient; default: patient")
    verify.add_argument("--no-patient", action="store_const", dest="patient", const=None, help="patients are unknown")
    audit = command("audit", _audit, "Does a trained classifier depend on the background? One HTML page.")
    audit.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="of a run, or a state_dict")
    audit.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="a data set folder with masks")
    audit.add_argument("--out", type=Path, default=Path("audit.html"), metavar="FILE", help="default: audit.html")
    audit.add_argument("--backbone", metavar="NAME", help="network of a state_dict, such as densenet121")
    audit.add_argument("--classes", nargs="+", metavar="NAME", help="in the order of the outputs")
    audit.add_argument("--size", type=_positive, metavar="N", help="side of the images in pixels")
    audit.add_argument("--equalise", action=argparse.BooleanOptionalAction, help="equalise histograms, as in training")
    audit.add_argument("--label", default="label", metavar="COLUMN", help="column of class names; default: label")
    audit.add_argument("--patient", default="patient", metavar="COLUMN", help="names the patient; default: patient")
    audit.add_argument("--no-patient", action="store_const", dest="patient", const=None, help="patients are unknown")
    return parser


def _run(options: argparse.Namespace) -> int:
    extra = {"threads": options.threads, "runs_only": options.runs_only}
    failed = run_study(options.study, options.notebooks, options.results, options.jobs, options.only, **extra)
    return 1 if failed else 0


def _status(options: argparse.Namespace) -> int:
    names = [options.study] if options.study else list(read_studies(options.notebooks)["studies"])
    own = [tell(name, options.notebooks, options.results) for name in names for tell in (search.status, status)]
    runs = pd.concat([frame for frame in own if len(frame)], ignore_index=True)
    group = ["study", "experiment", "method"]
    counts = pd.crosstab([runs[column] for column in group], runs["state"]).reindex(columns=STATES, fill_value=0)
    order = runs[group].drop_duplicates()
    print(order.merge(counts.reset_index(), on=group).to_string(index=False))
    for _, run in runs[runs["state"] == "stale"].iterrows():
        print(f"stale: {run['study']} {run['experiment']}/{run['method']}/seed{run['seed']}: {run['reason']}")
    return 0 if (runs["state"] == "done").all() else 1


def _report(options: argparse.Namespace) -> int:
    place = (options.notebooks, options.results)
    return 1 if (report(options.study, *place) if options.study else report_all(*place)) else 0


def _prepare(options: argparse.Namespace) -> int:
    from isnetlib.data.sources import SOURCES, SourceError, prepare  # imports torch, as below

    if options.source not in SOURCES:
        raise StudyError(f"there is no source {options.source!r}; known: {', '.join(SOURCES)}")
    try:
        left_out = prepare(SOURCES[options.source], options.folder, options.out, options.size, options.partial)
    except (SourceError, ImportError) as error:
        raise StudyError(str(error)) from None
    print(SOURCES[options.source].CARD.text(), end="")
    table = pd.read_csv(options.out / "index.csv", dtype=str, keep_default_na=False)
    masks, some = (table["mask"] != "").sum(), " (see left_out.csv)" if len(left_out) else ""
    print(f"{options.out}: {len(table)} images, {masks} with a mask; {len(left_out)} left out{some}")
    return 0


def _verify_data(options: argparse.Namespace) -> int:
    from isnetlib.data.folder import verify  # imports torch, which the other commands can do without

    if not options.folder.is_dir():
        raise StudyError(f"{options.folder} is not a folder")
    try:
        problems = verify(options.folder, options.label, options.attributes, patient=options.patient)
    except ValueError as error:
        raise StudyError(str(error)) from None
    for level, file, row, problem, remedy in problems.itertuples(index=False):
        print(f"{level}: {file}{f', row {row}' if row else ''}: {problem}; {remedy}")
    print(f"{options.folder}: {'no problem found' if problems.empty else f'{len(problems)} problems'}")
    return 1 if (problems["level"] == "error").any() else 0


def _audit(options: argparse.Namespace) -> int:
    from isnetlib import audit  # imports torch, as above
    from isnetlib.files import write_atomically

    how = (options.backbone, options.classes, options.size, options.equalise)
    try:
        model = audit.load_classifier(options.checkpoint, *how)
        if not options.data.is_dir():
            raise ValueError(f"{options.data} is not a folder")
        rest = (model.size, model.equalise, options.label, options.patient)
        found = audit.audit(model, audit.read_images(options.data, model.classes, *rest))
    except ValueError as error:
        raise StudyError(str(error)) from None
    write_atomically(options.out, audit.page(found, options.checkpoint.name, options.data.name))
    print(f"{found['kind']}: {'; '.join(found['reasons'])}\n{options.out}")
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


@contextlib.contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """End in order, notebooks included, when the terminal is closed or a scheduler says stop, as at Ctrl-C."""
    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, signal.default_int_handler) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
