"""results/<study>/report.html, from the study's tables and figures alone: one file that needs no other.

Numbers come from the tables, sentences about them from `findings`; the template holds the words that do not depend on
results. Whatever comes from files (names of methods, classes, test sets) is escaped.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from isnetlib import (
    comparison_findings,
    constants_findings,
    findings,
    frozen,
    goal_findings,
    names,
    overview,
    pages,
    relevance_findings,
    report_parts,
    search_findings,
    selection_findings,
    tables,
    titles,
    wording,
)
from isnetlib.files import write_atomically

NEEDED = ("metrics", "seeds", "selection", "comparisons", "tests", "runs")
# What a metric would be by chance.
CHANCE = {"background_share": "chance_share", "box_hit": "box_chance", "box_share": "box_chance"}
FIGURES = {  # stem of the file -> the notebook that makes it
    "scores": "40_compare",
    "forest": "40_compare",
    "p_values": "40_compare",
    "roc": "40_compare",
    "reliability": "40_compare",
    "curves": "40_compare",
    "heatmaps": "30_heatmaps",
}


def write(study: Path) -> Path:
    """Write results/<study>/report.html and return its path. FileNotFoundError where tables are missing."""
    path = Path(study) / "report.html"
    write_atomically(path, build(study))
    return path


def build(study: Path) -> str:
    """The report of results/<study> as one HTML text. FileNotFoundError where tables are missing."""
    frames = tables.read(study)
    missing = [name for name in NEEDED if name not in frames]
    if missing:
        raise FileNotFoundError(f"{Path(study) / 'tables'}: no {', '.join(missing)}; make them by notebook 40_compare")
    return pages.render("report.html.j2", context(Path(study), frames))


CONTENTS = (
    ("short", "In short"),
    ("question", "The question"),
    ("method", "How it works"),
    ("data", "Data"),
    ("reading", "How to read this"),
    ("results", "Results"),
    ("heatmaps", "Heatmaps"),
    ("training", "Training"),
    ("comparison", "ISNet against each method"),
    ("selection", "What was chosen on validation images"),
    ("cost", "Cost"),
    ("coverage", "Do the intervals hold?"),
    ("limits", "Limits"),
    ("reproduce", "Every number again"),
    ("licence", "Licence and patents"),
)


def context(study: Path, frames: dict[str, pd.DataFrame]) -> dict:
    """Everything the template shows."""
    runs, present = frames["runs"], findings.methods(frames["runs"])
    sentences = {method: wording.method_sentence(method) for method in present}
    return {
        "study": Path(study).name,
        "contents": CONTENTS,
        "methods": sentences,
        "primary": names.PRIMARY_METHOD,
        "rivals": [method for method in names.RIVALS if method in present],
        "runs": runs.to_dict("records"),
        "run_count": len(runs),
        "seeds_each": report_parts.seeds_each(frames["seeds"]),
        "experiments": [experiment(study, frames, name) for name in findings.experiments(frames["seeds"])],
        "summary": report_parts.figure_of(study, "summary", summary_alt(frames["comparisons"]), "40_compare"),
        "coverage": report_parts.coverage(frames.get("coverage")),
        "coverage_sentences": report_parts.coverage_sentences(frames),
        "changed": [(name, "frozen.csv") for name in frozen.changed(study)],
        "untouched": report_parts.untouched([study], present),
        "search_ends": list(search_findings.edge_sentences(frames["search"])) if "search" in frames else [],
        "paths": list(constants_findings.limit_sentences(frames.get("constants"))),
        "cost": report_parts.cost(study, frames),
        "cost_link": "#cost" if "cost" in frames else report_parts.other_cost(study),
        "training": report_parts.training(runs),
        "networks": report_parts.networks(frames),
        "works": names.WORKS,
        "upper_bound": wording.UPPER_BOUND_SENTENCES,
        "about": wording.METRIC_SENTENCES,
        "test_set_names": [(name, names.name_of_test_set(name)) for name in findings.test_sets_of(frames["tests"])],
        "needs_data": any(names.data_kind(name).startswith("real") for name in set(runs["experiment"]) - {"digits"}),
        "published": Path(study).name not in names.LOCAL_STUDIES,
    }


def summary_alt(comparisons: pd.DataFrame) -> str:
    """Alternative text of the summary over experiments."""
    rows = [findings.main_comparisons(comparisons, name) for name in findings.experiments(comparisons)]
    told = titles.summary_title(pd.concat(rows)) if rows else "Nothing was compared"
    return f"Advantage of the primary method with intervals, by experiment and test set. {told}."


def experiment(study: Path, frames: dict[str, pd.DataFrame], name: str) -> dict:
    """One experiment: sentences, tables and figures of its results."""
    seeds, comparisons = frames["seeds"], frames["comparisons"]
    primary = findings.primary(seeds, name)
    selection = selection_findings.selection_table(frames["metrics"], frames["selection"], name)
    return {
        "name": name,
        "metric": primary["metric"].iloc[0] if len(primary) else names.primary_metric(name),
        "kind": names.data_kind(name),
        "data": wording.data_sentence(name),
        "recipe": report_parts.recipe(frames["runs"], name),
        "search": report_parts.search(study, frames.get("search"), name),
        "frozen": _of(frozen.rows(study), name).to_dict("records"),
        "changed": name in frozen.changed(study),
        "tests": [tested(row) for row in _of(frames["tests"], name).to_dict("records")],
        "sentences": {kind: list(told) for kind, told in sentences(frames, name).items()},
        "scores": grid(primary),
        "overview": (lines := overview.overview(frames, name)).to_dict("records"),
        "standard": "standard" in set(primary["method"]),
        "costed": bool(lines["training"].notna().any()),
        "level": level(seeds, comparisons, name),
        "folds": bool((primary["unit"] == "folds").any()),
        "labels": labels(frames.get("labels"), name),
        "others": [(metric, others(_of(seeds, name), metric)) for metric in other_metrics(seeds, name)],
        "goals": goal_findings.goals(seeds, name).to_dict("records"),
        "omnibus": _of(frames["omnibus"], name).to_dict("records") if "omnibus" in frames else [],
        "left_out": findings.main_methods(primary) != findings.methods(primary),
        "two_classes": "roc" in frames and len(_of(frames["roc"], name)) > 0,
        "comparisons": compared(comparisons, name),
        "mcnemar": any(row["mcnemar"] is not None for row in compared(comparisons, name)),
        "selection": selection.to_dict("records"),
        "unmarked": relevance_findings.unmarked_sentence(seeds, name),
        "figures": {kind: figure(study, kind, name, frames) for kind in FIGURES},
    }


def sentences(frames: dict[str, pd.DataFrame], name: str) -> dict[str, Iterable[str]]:
    """What is said of an experiment, by the part of the report that says it."""
    seeds, comparisons = frames["seeds"], frames["comparisons"]
    rules = frames["metrics"], frames["selection"], seeds, name
    return {
        "short": short_sentences(frames, name),
        "results": findings.result_sentences(seeds, comparisons, name),
        "background": relevance_findings.background_sentences(seeds, name, frames.get("constants")),
        "goals": goal_findings.goal_sentences(seeds, name),
        "claims": comparison_findings.claims(comparisons, name).values(),
        "comparisons": comparison_findings.comparison_sentences(comparisons, name),
        "rivals": overview.rival_sentences(seeds, comparisons, name),
        "selection": selection_findings.selection_sentences(*rules),
        "first_epoch": selection_findings.first_epoch_sentences(frames["runs"], *rules),
    }


def level(seeds: pd.DataFrame, comparisons: pd.DataFrame, name: str) -> str:
    """For a caption: the rivals that do as well as the primary method, or that there is none; "" without rivals."""
    found = [method for method, _ in overview.level_rivals(seeds, comparisons, name)]
    rivals = names.in_order((method for method in found if method), names.METHOD_NAMES)
    told = ", ".join(names.method_name(method) for method in rivals) or "none"
    return f" Rivals whose mean comes near that of the primary method, or is higher: {told}." if found else ""


def short_sentences(frames: dict[str, pd.DataFrame], name: str) -> Iterator[str]:
    """The first things to know of an experiment: from which to which mean the methods reach where it is hardest, what
    the planned comparisons show (without any: all of them, where it is hardest), and which rivals are shown to do
    better.
    """
    seeds, comparisons = frames["seeds"], frames["comparisons"]
    yield f"{titles.scores_title(seeds, name)}."
    yield from findings.reverse_sentences(seeds, name)
    yield from overview.label_sentences(frames, name)
    claims = comparison_findings.claims(comparisons, name)
    yield from (claims[part] for part in ("planned", "detectable") if part in claims)
    if "planned" in claims:
        yield from overview.better_sentences(seeds, comparisons, name)
    else:
        yield from comparison_findings.difference_sentences(comparisons, name, findings.hardest(seeds, name))


def _of(frame: pd.DataFrame, experiment: str, **where) -> pd.DataFrame:
    for column, value in {"experiment": experiment, **where}.items():
        frame = frame[frame[column] == value]
    return frame


def tested(row: dict) -> dict:
    """A row of tests.csv with what the test set is and its classes as (name, cases)."""
    about = wording.TEST_SET_SENTENCES.get(row["test_set"], "")
    patients = None if pd.isna(row["patients"]) else int(row["patients"])
    told = {"about": about, "patients": patients or wording.patients_words(row["experiment"])}
    return row | told | {"classes": list(json.loads(row["classes"]).items())}


def grid(rows: pd.DataFrame) -> dict:
    """Rows of seeds.csv of one metric as a table: test sets across, methods down with their number of networks (unit:
    seeds, folds), each cell with both intervals.
    """
    sets = findings.test_sets_of(rows) + (["gap"] if (rows["test_set"] == "gap").any() else [])
    lines = []
    for method in findings.methods(rows):
        found = [findings.cell(rows, method=method, test_set=name) for name in sets]
        count = int(rows[rows["method"] == method]["n"].max())
        lines.append((method, count, [None if row is None else estimate(row) for row in found]))
    unit = "Folds" if (rows["unit"] == "folds").any() else "Seeds"
    return {"sets": sets, "unit": unit, "lines": lines, "chance": []}


def estimate(row: pd.Series) -> dict:
    """Mean and both intervals of a row of seeds.csv, as text; of folds, joined, there is none over seeds."""
    over_seeds = None if row["unit"] == "folds" else findings.span(row["low"], row["high"])
    over_cases = findings.span(row["cases_low"], row["cases_high"])
    return {"mean": findings.number(row["mean"]), "seeds": over_seeds, "cases": over_cases}


def labels(frame: pd.DataFrame | None, name: str) -> dict:
    """The AUC of each label by itself, where an experiment has several: columns (test set, label), lines (method, value
    and interval as text); no lines elsewhere. frame: labels.csv.
    """
    if frame is None:
        return {"columns": [], "lines": []}
    rows = _of(frame, name, metric="auc")
    columns = [(test_set, label) for test_set in findings.test_sets_of(rows) for label in rows["label"].unique()]
    lines = []
    for method in findings.methods(rows):
        own = [findings.cell(rows, method=method, test_set=test_set, label=label) for test_set, label in columns]
        lines.append((method, [None if row is None else _with_interval(row) for row in own]))
    return {"columns": columns, "lines": lines}


def _with_interval(row: pd.Series) -> tuple[str, str]:
    return findings.number(row["value"]), findings.span(row["low"], row["high"])


def other_metrics(seeds: pd.DataFrame, name: str) -> list[str]:
    """The metrics of an experiment beside the primary one; the chance level is shown with what it is the chance of."""
    rows = _of(seeds, name)
    found = names.in_order(rows.loc[~rows["primary"].astype(bool), "metric"], names.METRIC_NAMES)
    return [metric for metric in found if metric not in CHANCE.values()]


def others(rows: pd.DataFrame, metric: str) -> dict:
    """`grid` of a metric; for shares of the relevance, and hits, with the same part's share of the area."""
    table = grid(rows[rows["metric"] == metric])
    if metric in CHANCE:
        chance = [findings.cell(rows, metric=CHANCE[metric], test_set=name) for name in table["sets"]]
        table["chance"] = [] if any(row is None for row in chance) else [findings.number(row["mean"]) for row in chance]
    return table


def compared(comparisons: pd.DataFrame, name: str) -> list[dict]:
    """The comparisons of the primary metric with their verdict, and McNemar's test of the same pair beside them."""
    rows, further = findings.main_comparisons(comparisons, name), findings.primary(comparisons, name)
    further = further[further["test"].str.startswith("McNemar")]
    found = []
    for test_set in findings.test_sets_of(rows):
        for _, row in rows[rows["test_set"] == test_set].iterrows():
            vote = findings.cell(further, test_set=test_set, b=row["b"])
            told = {"verdict": findings.verdict(row), "span": findings.span(row["low"], row["high"])}
            told |= {"exploratory": findings.exploratory(row), "mcnemar": None if vote is None else vote["p"]}
            told |= {"matches": findings.matches(row)}
            found.append(row.to_dict() | told)
    return found


def figure(study: Path, kind: str, experiment: str, frames: dict[str, pd.DataFrame]) -> dict:
    """A figure with its alternative text, which says what it shows and, where a table tells, what it finds."""
    own = _of(frames["seeds"], experiment)
    shown, few = (
        ", ".join(names.method_name(method) for method in of(own)) for of in (findings.methods, findings.main_methods)
    )
    scores = titles.scores_title(frames["seeds"], experiment)
    forest = titles.forest_title(frames["comparisons"], experiment)
    planned = titles.p_title(frames["comparisons"], experiment)
    alts = {
        "scores": f"Means and intervals over seeds by test set and method. {scores}.",
        "forest": f"Differences with intervals. {forest}.",
        "p_values": f"Matrix of p by other method and test set. {planned}.",
        "roc": f"ROC curves with bands, one panel a test set, for {few}.",
        "reliability": f"Share right by confidence, one panel a test set, for {few}.",
        "curves": f"Training loss and validation by epoch, one line a seed, for {shown}.",
        "heatmaps": f"Relevance maps, red for and blue against, mask outlined, with images that may be shown: {shown}.",
    }
    return report_parts.figure_of(study, f"{kind}_{experiment}", alts[kind], FIGURES[kind])
