"""Generated parts of a text: result tables as Markdown, put between markers, so that no number is typed by hand."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from isnetlib import claims, cost_findings, tables, titles, wording
from isnetlib.files import write_atomically
from isnetlib.findings import (
    cell,
    experiments,
    hardest,
    methods,
    number,
    primary,
    span,
    test_sets_of,
)
from isnetlib.names import (
    LOCAL_STUDIES,
    PRIMARY_METHOD,
    STUDY_SENTENCES,
    UPPER_BOUNDS,
    data_kind,
    in_order,
    method_name,
    metric_name,
    name_of_test_set,
)


def readme_table(seeds: pd.DataFrame) -> str:
    """seeds.csv as Markdown, one table an experiment: primary metric by method and test set with the interval over
    seeds (of folds, joined: over cases), the gap, and the background share of relevance (chance level beside it) on the
    hardest test set."""
    return "\n\n".join(_table(seeds, experiment) for experiment in shown(seeds))


def shown(seeds: pd.DataFrame) -> list[str]:
    """The experiments that README.md shows: those in which the primary method has run, without the simulated ones where
    there are others.
    """
    found = experiments(seeds[seeds["method"] == PRIMARY_METHOD])
    return [name for name in found if data_kind(name) != "simulated"] or found


def _table(seeds: pd.DataFrame, experiment: str) -> str:
    rows, worst = primary(seeds, experiment), hardest(seeds, experiment)
    sets = test_sets_of(rows) + (["gap"] if "gap" in set(rows["test_set"]) else [])
    shares = seeds[
        (seeds["experiment"] == experiment) & (seeds["metric"] == "background_share") & (seeds["test_set"] == worst)
    ]
    over = "folds" if (rows["unit"] == "folds").any() else "seeds"
    head = ["method", over, *(name_of_test_set(name) for name in sets)] + (
        [f"background share ({name_of_test_set(worst)})"] if len(shares) else []
    )
    what = "mean over seeds [95 % interval over seeds]" if (rows["n"] > 1).any() else "one training each"
    what = "over all folds [95 % interval over cases]" if over == "folds" else what
    lines = [f"{experiment} ({data_kind(experiment)}): {metric_name(rows['metric'].iloc[0])}, {what}", ""]
    lines += [_line(head), _line(["---"] + ["---:"] * (len(head) - 1))]
    for method in methods(rows):
        count = int(rows[rows["method"] == method]["n"].max())
        cells = [str(count)] + [_estimate(cell(rows, method=method, test_set=name)) for name in sets]
        share, chance = (
            cell(seeds, experiment=experiment, test_set=worst, method=method, metric=m)
            for m in ("background_share", "chance_share")
        )
        beside = f" (chance {number(chance['mean'])})" if chance is not None else ""
        cells += [_estimate(share) + (beside if share is not None else "")] if len(shares) else []
        lines.append(_line([method_name(method), *cells]))
    if set(rows["method"]) & set(UPPER_BOUNDS):
        lines += ["", wording.UPPER_BOUND_SENTENCES]
    return "\n".join(lines)


def _estimate(row: pd.Series | None) -> str:
    if row is None:
        return ""
    low, high = (row["cases_low"], row["cases_high"]) if row["unit"] == "folds" else (row["low"], row["high"])
    return number(row["mean"]) + ("" if pd.isna(low) else f" {span(low, high)}")


def conclusion(studies: dict[str, dict[str, pd.DataFrame]]) -> str:
    """What may be said of the papers' claim, as a list in Markdown, and the means behind it. studies: `published`."""
    told = "\n".join(f"- {sentence}" for sentence in claims.conclusion(studies))
    return f"{told}\n\n{claim_table(studies)}".rstrip()


def claim_table(studies: dict[str, dict[str, pd.DataFrame]]) -> str:
    """Every method's mean on the test sets of the claim as Markdown; "" where no comparison is planned."""
    found = claims.scores(claims.claim(studies), studies)
    if not found["columns"]:
        return ""
    head = [
        f"{name}, {name_of_test_set(test_set)} ({metric_name(metric)})"
        for _, name, test_set, metric in found["columns"]
    ]
    lines = [["method", *head], ["---"] + ["---:"] * len(head)]
    lines += [[method_name(method), *means] for method, means in found["lines"]]
    return "\n".join(_line(cells) for cells in lines) + f"\n\n{claims.FEWER_SENTENCE}" * found["partial"]


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


def update(
    text: str, study: str, frames: dict[str, pd.DataFrame], studies: dict[str, dict[str, pd.DataFrame]] | None = None
) -> str:
    """README.md's text with its generated parts made anew: the result tables, a figure, the cost, what
    explaining takes, the networks covered, and, where README.md has a place for them, what the methods are and the
    conclusion over all `studies` (`published`). A table that is not there is said to be missing.

    study: its folder as README.md names it, such as results/full; frames: `tables.read`.
    """
    if studies and "<!-- generated: conclusion -->" in text:
        files = [(Path(study).parent / name / "tables/comparisons.csv").as_posix() for name in studies]
        text = fill(text, "conclusion", conclusion(studies) + linked(*files))
    about = [f"- *{method_name(name)}* (`{name}`): {sentence}." for name, sentence in wording.METHOD_SENTENCES.items()]
    text = fill(text, "methods", "\n".join(about)) if "<!-- generated: methods -->" in text else text
    seeds = frames["seeds"]
    text = fill(text, "results", readme_table(seeds) + linked(f"{study}/tables/seeds.csv"))
    text = fill(text, "figure", figure_links(study, seeds, studies or {}))
    for name, make in (("cost", cost_table), ("explain", explain_table), ("architectures", architectures_table)):
        there = name in frames
        made = make(frames[name]) + linked(f"{study}/tables/{name}.csv") if there else MISSING.format(name=name)
        text = fill(text, name, made)
    found = "\n".join(f"- {sentence}" for sentence in cost_findings.sentences(frames))
    there = [f"{study}/tables/{name}.csv" for name in ("cost", "classes") if name in frames]
    return fill(text, "cost findings", found + (linked(*there) if found else ""))


def figure_links(study: str, seeds: pd.DataFrame, studies: dict[str, dict[str, pd.DataFrame]]) -> str:
    """The figure of the claim as Markdown, which carries the message of all studies; where no comparison of the claim
    was made, one of the scores for each experiment shown.
    """
    rows = claims.claim(studies) if studies else pd.DataFrame({"verdict": []})
    if len(claims.made(rows)):
        return f"![{claims.title(rows)}]({Path(study).parent.as_posix()}/figures/claim.png)"
    links = [f"![{titles.scores_title(seeds, name)}]({study}/figures/scores_{name}.png)" for name in shown(seeds)]
    return "\n\n".join(links)


def linked(*files: str) -> str:
    """A last line of Markdown that links to the files that hold the numbers, by their names, or by their paths where
    two have one name.
    """
    apart = len({Path(file).name for file in files}) == len(files)
    names = [Path(file).name if apart else file for file in files]
    return f"\n\nNumbers: {', '.join(f'[{name}]({file})' for name, file in zip(names, files, strict=True))}"


MISSING = "Not measured yet; notebook 60_cost makes the table `{name}.csv`."


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
    readme, study = Path("README.md"), Path("results/full")
    text = readme.read_text(encoding="utf-8")
    write_atomically(readme, update(text, study.as_posix(), tables.read(study), published(Path("results"))))


def published(results: Path) -> dict[str, dict[str, pd.DataFrame]]:
    """The tables of every published study that has them."""
    there = [path.parent.parent.name for path in sorted(results.glob("*/tables/comparisons.csv"))]
    studies = in_order((name for name in there if name not in LOCAL_STUDIES), STUDY_SENTENCES)
    return {name: tables.read(results / name) for name in studies}


if __name__ == "__main__":
    main()
