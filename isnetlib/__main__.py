"""The command `isnet`: train on your own images, predict, audit, prepare and check data set folders; run a study, tell
its state, make its report.
"""

import argparse
import contextlib
import functools
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from isnetlib.study import runner
from isnetlib.study.config import StudyError, read_studies
from isnetlib.study.runs import STATES

PIPELINE = "notebooks/pipeline"  # of a clone


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 all is well, 1 something failed or is not done, 2 a mistake in the request, 130 interrupted."""
    options = _parser().parse_args(arguments)
    warnings.formatwarning = lambda message, *_, **__: f"isnet: {message}\n"
    with contextlib.suppress(AttributeError):  # a line at a time, into a file too
        sys.stdout.reconfigure(line_buffering=True)
    try:
        with _termination_as_interrupt():
            return options.command(options)
    except (ValueError, OSError, ImportError, ArithmeticError, NotImplementedError) as error:  # OSError names its file
        print("isnet:", "\n".join(" ".join(line.split()) for line in str(error).splitlines()), file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and type(error).__name__ != "OutOfMemoryError":
            raise
        print("isnet: out of memory: take a smaller --batch-size, --size or --backbone", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("isnet: interrupted; the same train or run goes on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    text = "Train classifiers that ignore the background on your own images; run the studies of study.yaml."
    parser = argparse.ArgumentParser(prog="isnet", description=text)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function, text: str) -> argparse.ArgumentParser:
        own = commands.add_parser(name, help=text.partition("?")[0] + "?" * ("?" in text), description=text)
        own.set_defaults(command=function)
        return own

    _add_use(command)
    _add_data(command)
    _add_studies(command)
    return parser


def _of_columns(own: argparse.ArgumentParser) -> None:
    own.add_argument("--label", default="label", metavar="COLUMN", help="column of class names; default: label")
    own.add_argument("--patient", default="patient", metavar="COLUMN", help="names the patient; default: patient")
    own.add_argument("--no-patient", action="store_const", dest="patient", const=None, help="patients are unknown")


def _on_device(own: argparse.ArgumentParser) -> None:
    own.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda or mps; default: the fastest")


def _add_use(command) -> None:
    text = """Train a classifier that ignores the background and, beside it, a standard one, and test both. Writes
    report.html into RUN: how they score on other backgrounds, where their relevance lies, and which one to use. Called
    again, it goes on where it stopped."""
    train = command("train", _train, text)
    text = "a data set folder: index.csv with the columns image, mask, label, source, patient"
    train.add_argument("--data", type=Path, required=True, metavar="FOLDER", help=text)
    train.add_argument("--out", type=Path, required=True, metavar="RUN", help="the folder to make")
    text = "default: isnet_selective; a wrong name lists all"
    train.add_argument("--method", default="isnet_selective", metavar="NAME", help=text)
    text = "small_resnet (for images of some 30 to 130 pixels) or a classifier of torchvision; default: resnet18"
    train.add_argument("--backbone", default="resnet18", metavar="NAME", help=text)
    text = "none (default), default (torchvision's of ImageNet, which are downloaded) or a file"
    train.add_argument("--weights", default="none", metavar="WHICH", help=text)
    train.add_argument("--size", type=_positive, default=224, metavar="N", help="side in pixels; default: 224")
    train.add_argument("--epochs", type=_positive, default=30, metavar="N", help="passes over the images; default: 30")
    train.add_argument("--batch-size", type=_positive, default=16, metavar="N", help="images a step; default: 16")
    train.add_argument("--learning-rate", type=float, default=3e-3, metavar="X", help="its peak; default: 0.003")
    train.add_argument("--seed", type=int, default=0, metavar="N", help="of weights and order; default: 0")
    train.add_argument("--equalise", action="store_true", help="equalise histograms, here and in use")
    train.add_argument("--test", type=Path, nargs="+", default=(), metavar="FOLDER", help="more folders to test on")
    train.add_argument(
        "--external", nargs="+", default=(), metavar="SOURCE", help="sources kept out of training, to test"
    )
    train.add_argument("--no-standard", action="store_false", dest="standard", help="train no standard classifier")
    _of_columns(train)
    _on_device(train)
    predict = command("predict", _predict, "Write a trained classifier's answers on images into a table.")
    predict.add_argument("run", type=Path, metavar="RUN", help="a folder that `isnet train` made")
    text = "files, folders, or a data set folder with its index.csv"
    predict.add_argument("images", type=Path, nargs="+", metavar="IMAGES", help=text)
    text = "default: predictions.csv"
    predict.add_argument("--out", type=Path, default=Path("predictions.csv"), metavar="FILE", help=text)
    predict.add_argument("--heatmaps", type=Path, metavar="FOLDER", help="for a picture an image, with its heatmap")
    _on_device(predict)
    text = """Does a trained classifier depend on the background? Prints a word and writes one HTML page. depends:
    other backgrounds (swapped, blurred, removed) cost performance; undecided: too few images or too weak a model to
    tell; look closer: performance holds, but much relevance lies outside the masks; not shown: none of these."""
    audit = command("audit", _audit, text)
    own = "a folder that `isnet train` made; or weights, a state_dict of torchvision's; pixels in [0, 1]"
    audit.add_argument("checkpoint", type=Path, metavar="RUN", help=own)
    own = "a data set folder with masks, of images that the model was not trained on"
    audit.add_argument("--data", type=Path, required=True, metavar="FOLDER", help=own)
    audit.add_argument("--out", type=Path, default=Path("audit.html"), metavar="FILE", help="default: audit.html")
    audit.add_argument("--backbone", metavar="NAME", help="network of a state_dict, such as densenet121")
    audit.add_argument("--classes", nargs="+", metavar="NAME", help="in the order of the outputs")
    audit.add_argument("--size", type=_positive, metavar="N", help="side of the images in pixels")
    audit.add_argument("--equalise", action=argparse.BooleanOptionalAction, help="equalise histograms, as in training")
    _of_columns(audit)
    text = "Write a trained classifier as model.pt2 (PyTorch) and model.onnx, to be used without isnetlib, into RUN."
    export = command("export", _export, text)
    export.add_argument("run", type=Path, metavar="RUN", help="a folder that `isnet train` made")
    export.add_argument("--no-onnx", action="store_false", dest="onnx", help="model.pt2 alone")


def _add_data(command) -> None:
    prepare = command("prepare", _prepare, "Turn a public data set, as its publisher ships it, into a data set folder.")
    prepare.add_argument("source", metavar="SOURCE", help="montgomery, nih, ...; a wrong name lists all")
    prepare.add_argument("folder", type=Path, metavar="FOLDER", help="the publisher's files, unpacked; only read")
    prepare.add_argument("out", type=Path, metavar="OUT", help="the folder to make")
    prepare.add_argument("--size", type=int, default=512, metavar="N", help="longer side in pixels; 0: as published")
    prepare.add_argument("--partial", action="store_true", help="FOLDER is a part: leave out what is missing")
    verify = command("verify-data", _verify_data, "Check a data set folder: index.csv and its files.")
    verify.add_argument("folder", type=Path, metavar="FOLDER")
    verify.add_argument("--attributes", nargs="+", default=(), metavar="COLUMN", help="0/1 columns instead of a label")
    _of_columns(verify)


def _add_studies(command) -> None:
    def of_study(own: argparse.ArgumentParser, required: bool = True) -> argparse.ArgumentParser:
        own.add_argument("--study", required=required, metavar="NAME", help="a study of study.yaml")
        own.add_argument("--results", type=Path, metavar="DIR", help="where results lie; default: beside the notebooks")
        text = f"with study.yaml; default: {PIPELINE} in this folder or above it"
        own.add_argument("--notebooks", type=Path, metavar="DIR", help=text)
        return own

    run = of_study(command("run", _run, "Make every run of a study that is not done, pack them, and make its report."))
    run.add_argument("--jobs", type=_positive, metavar="N", help="runs at a time; default: 2 where there are 2 cores")
    run.add_argument("--only", nargs="+", default=(), metavar="NAME", help="these methods, experiments, seed0, ...")
    run.add_argument("--threads", type=_positive, metavar="N", help="cores of a run; default: all, shared by the jobs")
    run.add_argument("--runs-only", action="store_true", help="pack and report nothing")
    text = "Count done, unfinished, missing and stale runs: a line a study, with --study a line a method."
    of_study(command("status", _status, text), required=False)
    text = "Make tables, figures and report anew from the results of the runs; without --study all that are published."
    of_study(command("report", _report, text), required=False)


def _train(options: argparse.Namespace) -> int:
    from isnetlib import audit, own  # they import torch, which studies' states and reports can do without

    names = "method backbone size epochs batch_size learning_rate seed device equalise standard label patient external"
    how = {name: getattr(options, name) for name in names.split()}
    weights = None if options.weights == "none" else options.weights
    tests = own.train(options.data, options.out, weights=weights, tests=options.test, **how)
    for name, word in audit.compare(options.out, tests, own.pick(options.device)).items():
        print(f"{name}: {word}")
    print(options.out / "report.html")
    return 0


def _predict(options: argparse.Namespace) -> int:
    from isnetlib import own

    told = functools.partial(print, "isnet:", file=sys.stderr)
    unread = own.predict(options.run, options.images, options.out, options.heatmaps, options.device, told)
    print(options.out)
    return 1 if unread else 0


def _place(options: argparse.Namespace) -> tuple[Path, Path]:
    """The folders of the notebooks and of the results."""
    if options.notebooks:
        return options.notebooks, options.results or options.notebooks.parent / "results"
    for clone in (Path.cwd(), *Path.cwd().parents):
        if (clone / PIPELINE / "study.yaml").is_file():
            return clone / PIPELINE, options.results or clone / "results"
    raise StudyError(f"no {PIPELINE}/study.yaml here or above: call isnet in a clone, or give --notebooks")


def _run(options: argparse.Namespace) -> int:
    place, how = _place(options), (options.jobs, options.only, options.threads, options.runs_only)
    return min(1, runner.run_study(options.study, *place, *how))


def _status(options: argparse.Namespace) -> int:
    place = _place(options)
    names = [options.study] if options.study else list(read_studies(place[0])["studies"])
    found = pd.concat([runner.status(name, *place) for name in names])
    group = ["study", "experiment", "method"] if options.study else ["study"]
    counts = pd.crosstab([found[column] for column in group], found["state"]).reindex(columns=STATES, fill_value=0)
    print(found[group].drop_duplicates().merge(counts.reset_index(), on=group).to_string(index=False))
    for run in found[found["state"] == "stale"].itertuples():
        print(f"stale: {run.study} {run.experiment}/{run.method}/seed{run.seed}: {run.reason}")
    return 0 if (found["state"] == "done").all() else 1


def _report(options: argparse.Namespace) -> int:
    return min(1, runner.report(*_place(options), options.study))


def _prepare(options: argparse.Namespace) -> int:
    from isnetlib.data import sources  # imports torch, which the commands above can do without

    left_out = sources.prepare(options.source, options.folder, options.out, options.size, options.partial)
    print((options.out / "card.txt").read_text(encoding="utf-8"), end="")
    table = pd.read_csv(options.out / "index.csv", dtype=str, keep_default_na=False)
    masks, some = (table["mask"] != "").sum(), " (see left_out.csv)" if len(left_out) else ""
    print(f"{options.out}: {len(table)} images, {masks} with a mask; {len(left_out)} left out{some}")
    return 0


def _verify_data(options: argparse.Namespace) -> int:
    from isnetlib.data.folder import verify

    if not options.folder.is_dir():
        raise StudyError(f"{options.folder} is not a folder")
    columns = {name: getattr(options, name) for name in ("label", "attributes", "patient")}
    problems = verify(options.folder, **columns)
    for level, file, row, problem, remedy in problems.itertuples(index=False):
        print(f"{level}: {file}{f', row {row}' if row else ''}: {problem}; {remedy}")
    count = "no problem found" if problems.empty else f"{len(problems)} problem{'s' * (len(problems) > 1)}"
    print(f"{options.folder}: {count}")
    return 1 if (problems["level"] == "error").any() else 0


def _export(options: argparse.Namespace) -> int:
    from isnetlib.deploy import export

    print(*export(options.run, options.onnx), sep="\n")
    return 0


def _audit(options: argparse.Namespace) -> int:
    from isnetlib.audit import audit

    how = {name: getattr(options, name) for name in ("backbone", "classes", "size", "equalise")}
    found = audit(options.checkpoint, options.data, options.out, options.label, options.patient, **how)
    print(f"{found['verdict']}\n{options.out}")
    return 0


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


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
