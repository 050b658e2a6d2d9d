"""Generated parts of a text: result tables as Markdown, put between markers, so that no number is typed by hand."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from isnetlib import beside_claims, claims, constants_findings, cost_findings, papers, tables, wording
from isnetlib.files import write_atomically
from isnetlib.names import (
    LOCAL_STUDIES,
    METHOD_NAMES,
    PRIMARY_METHOD,
    RIVALS,
    STUDY_SENTENCES,
    data_kind,
    in_order,
    method_name,
    metric_name,
    name_of_test_set,
)

# Beside a rival's score: what the comparison with the primary method shows.
MARKS = {"ahead": " \N{WHITE DOWN-POINTING TRIANGLE}", "behind": " \N{BLACK UP-POINTING TRIANGLE}"}


def conclusion(studies: dict[str, dict[str, pd.DataFrame]]) -> str:
    """The few sentences of the papers' claim that README.md has room for, as a list in Markdown: the counts, on how
    much they rest, and what the other test sets and methods gave. studies: `published`.
    """
    rows = claims.claim(studies)
    told = [*claims.count_sentences(rows), *claims.guess_sentences(rows, studies), *claims.scope_sentences(rows)]
    told += beside_claims.label_sentences(studies, among=(PRIMARY_METHOD, *RIVALS))
    told += [*list(beside_claims.home_sentences(studies))[:1], *beside_claims.outside_sentences(studies)]
    told += beside_claims.reverse_sentences(studies)
    return "\n".join(f"- {sentence}" for sentence in told)


def claim_table(studies: dict[str, dict[str, pd.DataFrame]]) -> str:
    """The primary method and the five rivals on each test set of the claim as Markdown: primary metric, mean over
    trainings, and whether the primary method is shown to be ahead of a rival or behind; "" where nothing is planned.
    """
    rows = claims.claim(studies)
    found = claims.scores(rows, studies)
    methods, means = [PRIMARY_METHOD, *in_order(RIVALS, METHOD_NAMES)], dict(found["lines"])
    lines = [["test set", "images", "measure", "cases", "trainings", *map(method_name, methods)]]
    lines += [["---"] * 3 + ["---:"] * (len(methods) + 2)]
    kinds = list(claims.KIND_WORDS)
    for k, key in sorted(enumerate(found["columns"]), key=lambda pair: kinds.index(data_kind(pair[1][1]))):
        own = rows[(rows[[*claims.KEYS, "metric"]] == list(key)).all(axis=1)].set_index("b")
        cells = [means.get(name, [""] * (k + 1))[k] + MARKS.get(own["verdict"].get(name), "") for name in methods]
        named = [f"{key[1]}, {name_of_test_set(key[2])}", own["kind"].iloc[0], metric_name(key[3])]
        lines.append([*named, claims.from_to(claims.made(own)["n"]), claims.trainings(own), *cells])
    table = "\n".join(map(_line, lines))
    return (table + f"\n\n{claims.FEWER_SENTENCE}" * (claims.FEWER in table)) if found["columns"] else ""


def _line(cells: Sequence[str]) -> str:
    """One row; what would end a cell or be read as HTML is escaped."""
    escaped = [cell.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def fill(text: str, name: str, content: str) -> str:
    """Replace what stands between `<!-- generated: NAME -->` and `<!-- end: NAME -->`. ValueError unless both markers
    are there once, in this order.
    """
    start, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
    pattern = re.compile(f"({re.escape(start)}\n).*?({re.escape(end)})", re.DOTALL)
    if text.count(start) != 1 or text.count(end) != 1 or not pattern.search(text):
        raise ValueError(f"the text needs the lines {start} and {end}, each once and in this order")
    return pattern.sub(lambda match: f"{match[1]}{content.strip()}\n{match[2]}", text)


def update(text: str, study: str, studies: dict[str, dict[str, pd.DataFrame]]) -> str:
    """README.md's text with its generated parts made anew: the claim as a table, in sentences and as a figure, what the
    methods are, and of one study the cost, what explaining takes, and the networks covered. A table that is not there
    is said to be missing.

    study: the folder of the one as README.md names it, such as results/full; studies: `published`.
    """
    folder, frames = Path(study).parent, studies[Path(study).name]
    judged = claims.claim(studies)["study"].unique()
    files = [(folder / name / "tables/comparisons.csv").as_posix() for name in judged]
    text = fill(text, "results", claim_table(studies))
    text = fill(text, "conclusion", conclusion(studies) + (linked(*files) if files else ""))
    text = fill(text, "figure", figure_link(folder, studies))
    about = [
        f"- *{method_name(name)}* (`{name}`): {sentence}{papers.after(name)}."
        for name, sentence in wording.METHOD_SENTENCES.items()
    ]
    text = fill(text, "methods", "\n".join(about))
    for name, make in (("cost", cost_table), ("explain", explain_table), ("architectures", architectures_table)):
        there = name in frames
        made = make(frames[name]) + linked(f"{study}/tables/{name}.csv") if there else MISSING.format(name=name)
        text = fill(text, name, made)
    text = fill(text, "constants", constants_table(folder, studies))
    found = "\n".join(f"- {sentence}" for sentence in cost_findings.sentences(frames))
    there = [f"{study}/tables/{name}.csv" for name in ("cost", "classes") if name in frames]
    return fill(text, "cost findings", found + (linked(*there) if found else ""))


def figure_link(folder: Path, studies: dict[str, dict[str, pd.DataFrame]]) -> str:
    """The figure of the claim as Markdown; "" where no comparison was made. folder: that of all results."""
    rows = claims.claim(studies)
    return f"![{claims.title(rows)}]({folder.as_posix()}/figures/claim.png)" if len(claims.made(rows)) else ""


def linked(*files: str) -> str:
    """A last line of Markdown that links to the files that hold the numbers, by their names, or by their paths where
    two have one name.
    """
    apart = len({Path(file).name for file in files}) == len(files)
    names = [Path(file).name if apart else file for file in files]
    return f"\n\nNumbers: {', '.join(f'[{name}]({file})' for name, file in zip(names, files, strict=True))}"


MISSING = "Not measured yet; notebook 60_cost makes the table `{name}.csv`."


def constants_table(folder: Path, studies: dict[str, dict[str, pd.DataFrame]]) -> str:
    """constants.csv of all studies as Markdown; "" where there is none. folder: that of all results."""
    found = {name: frames["constants"] for name, frames in studies.items() if "constants" in frames}
    lines = [constants_findings.HEAD, ["---"] * 2 + ["---:"] * (len(constants_findings.HEAD) - 2)]
    lines += [cells for frame in found.values() for cells in constants_findings.lines(frame)]
    files = [(folder / name / "tables/constants.csv").as_posix() for name in found]
    return "\n".join(_line(cells) for cells in lines) + linked(*files) if found else ""


def architectures_table(frame: pd.DataFrame) -> str:
    """architectures.csv as Markdown."""
    lines = [cost_findings.ARCHITECTURE_COLUMNS, ["---"] * 2 + ["---:"] * 3, *cost_findings.architecture_lines(frame)]
    return "\n".join(_line(cells) for cells in lines)


def explain_table(frame: pd.DataFrame) -> str:
    """explain.csv as Markdown: one image, in forward passes; why a tool has no number."""
    lines = [["network", "tool", "time / forward pass", ""], ["---", "---", "---:", "---"]]
    return "\n".join(_line(cells) for cells in [*lines, *cost_findings.explain_lines(frame)])


def cost_table(cost: pd.DataFrame) -> str:
    """cost.csv as Markdown: time of a training step and of a prediction in units of the plain classifier's."""
    head = [
        "network",
        "method",
        "training step / plain step",
        "prediction / plain prediction",
        "peak memory of training",
    ]
    lines = [_line(head), _line(["---"] * 2 + ["---:"] * 3)]
    for (network, size, batch, variant), rows in cost.groupby(["network", "size", "batch", "variant"], sort=False):
        first = rows[["ratio_to_plain_step", "ratio_to_plain_inference", "peak_mib"]].bfill().iloc[0]
        ratios = [cost_findings.ratio(first[name]) for name in ("ratio_to_plain_step", "ratio_to_plain_inference")]
        peak = "" if pd.isna(first["peak_mib"]) else f"{first['peak_mib']:.0f} MiB"
        name = f"{network}, {size} px, batch {batch}"
        lines.append(_line([name, cost_findings.variant_name(variant, rows["maps"].iloc[0]), *ratios, peak]))
    return "\n".join(lines)


def main() -> None:
    """python -m isnetlib.readme, called in the project's folder: rewrite README.md from the results."""
    readme = Path("README.md")
    text = readme.read_text(encoding="utf-8")
    write_atomically(readme, update(text, "results/full", published(Path("results"))))


def published(results: Path) -> dict[str, dict[str, pd.DataFrame]]:
    """The tables of every published study that has them."""
    there = [path.parent.parent.name for path in sorted(results.glob("*/tables/comparisons.csv"))]
    studies = in_order((name for name in there if name not in LOCAL_STUDIES), STUDY_SENTENCES)
    return {name: tables.read(results / name) for name in studies}


if __name__ == "__main__":
    main()
