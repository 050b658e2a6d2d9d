"""Parts of a report: seeds and recipe of the runs, the search for loss weights, cost, and coverage."""

from pathlib import Path

import pandas as pd

from isnetlib import cost_findings, coverage_findings, findings, frozen, names, pages, search_findings, wording


def seeds_each(seeds: pd.DataFrame) -> str:
    """With how many seeds, or folds, the methods were trained: "5 seeds", "3 to 5 seeds", "1 to 5 seeds or folds"."""
    rows = seeds[seeds["primary"].astype(bool)].groupby(["experiment", "method"])["n"].max()
    low, high = int(rows.min()), int(rows.max())
    units = " or ".join(sorted(set(seeds["unit"]), reverse=True))
    if high == 1:
        return f"1 {units.replace('s or', ' or').removesuffix('s')}"
    return f"{low} {units}" if low == high else f"{low} to {high} {units}"


def recipe(runs: pd.DataFrame, experiment: str) -> str:
    """How the networks of an experiment were trained, by runs.csv; "" where it does not tell. Methods that differ from
    most are named.
    """
    rows = runs[runs["experiment"] == experiment]
    if "backbone" not in rows or rows[list(RECIPE)].isna().any(axis=None):
        return ""
    return f"Trained: {', '.join(words.format(_usual(rows, column)) for column, words in RECIPE.items())}."


RECIPE = {
    "backbone": "backbone {}",
    "epochs": "{} epochs",
    "batch_size": "{} images a step",
    "learning_rate": "peak learning rate {}",
}


def _usual(rows: pd.DataFrame, column: str) -> str:
    """What most runs have, and in brackets what the methods have that differ."""
    usual = rows[column].mode().iloc[0]
    other = rows[rows[column] != usual].drop_duplicates(["method", column])
    form = "{}" if isinstance(usual, str) else "{:g}"
    told = [f"{names.method_name(row['method'])}: {form.format(row[column])}" for _, row in other.iterrows()]
    return form.format(usual) + (f" ({'; '.join(told)})" if told else "")


def search(study: Path, frame: pd.DataFrame | None, experiment: str) -> dict | None:
    """The search for loss weights of an experiment: rows of search.csv, its figure, and where the best lies at an end;
    None where there was none.
    """
    rows = None if frame is None else frame[frame["experiment"] == experiment]
    if rows is None or rows.empty:
        return None
    alt = "Validation by value of each loss weight: swapped backgrounds solid, as it is dashed, a ring: chosen."
    return {
        "rows": [row | {"note": "" if pd.isna(row["note"]) else row["note"]} for row in rows.to_dict("records")],
        "figure": figure_of(study, f"search_{experiment}", alt, "06_search_table"),
        "sentences": list(search_findings.edge_sentences(rows)),
        "epochs": " or ".join(map(str, sorted(set(rows["epochs"])))),
        "options": {name: wording.OPTION_SENTENCES.get(name, name) for name in rows["option"].unique()},
    }


def coverage_sentences(frames: dict[str, pd.DataFrame]) -> list[str]:
    """What coverage.csv says of the intervals in use; nothing where coverage was not simulated."""
    if "coverage" not in frames:
        return []
    return list(coverage_findings.coverage_sentences(frames["coverage"], frames["seeds"], frames.get("intervals")))


def coverage(frame: pd.DataFrame | None) -> list[dict]:
    """coverage.csv in brief, a row an interval or test: what, measure, name, cells, lowest, highest, holding."""
    if frame is None:
        return []
    keys, share = ["what", "measure", "name"], {"lowest": ("share", "min"), "highest": ("share", "max")}
    return (
        frame.groupby(keys, sort=False)
        .agg(cells=("share", "size"), **share, holding=("holds", "sum"))
        .reset_index()
        .to_dict("records")
    )


def training(runs: pd.DataFrame) -> list[dict]:
    """Mean seconds, peak memory and parameters of a run, by experiment and method."""
    numbers = ["seconds", "peak_mib", "parameters"]
    means = runs.groupby(["experiment", "method"], as_index=False)[numbers].mean()
    order = {method: k for k, method in enumerate(findings.methods(runs))}
    means = means.sort_values(["experiment", "method"], key=lambda column: column.map(lambda v: order.get(v, v)))
    return [{k: None if pd.isna(v) else v for k, v in row.items()} for row in means.to_dict("records")]


def cost(study: Path, frames: dict[str, pd.DataFrame]) -> dict | None:
    """cost.csv, its figures, those of them that are there, and what it says; None where the cost was not measured."""
    frame = frames.get("cost")
    if frame is None:
        return None
    rows = []
    for row in frame.to_dict("records"):
        step = row["ratio_to_plain_step"]
        ratio = row.get("ratio_to_plain_inference") if pd.isna(step) else step
        name = cost_findings.variant_name(row["variant"], row["maps"])
        rows.append({"phase": "training"} | row | {"name": name, "ratio": ratio})
    alt = "Bars: time of a training step in plain steps, by network and variant; the numbers are in the table below."
    more = {
        "cost_classes": "Lines: time of a training step in plain steps by number of classes, one line a variant.",
        "cost_run_time": "Bars: time of a prediction in plain predictions, and parameters that it uses, by method.",
    }
    further = [(figure_of(study, stem, text, "60_cost"), text) for stem, text in more.items()]
    return {
        "rows": rows,
        "figure": figure_of(study, "cost", alt, "60_cost"),
        "further": [(picture, text) for picture, text in further if picture["pieces"]],
        "sentences": list(cost_findings.sentences(frames)),
    }


def networks(frames: dict[str, pd.DataFrame]) -> dict:
    """explain.csv and architectures.csv for people, each a list of lines; an empty one where it was not measured."""
    lines = {"explain": cost_findings.explain_lines, "architectures": cost_findings.architecture_lines}
    return {name: make(frames[name]) if name in frames else [] for name, make in lines.items()} | {
        "columns": cost_findings.ARCHITECTURE_COLUMNS
    }


def figure_of(study: Path, stem: str, alt: str, notebook: str) -> dict:
    """A figure of results/<study>/figures for a page, made by a notebook."""
    return pages.picture(study / "figures", stem, alt, f"notebook {notebook}")


def untouched(studies: list[Path], present: list[str]) -> str:
    """The planned rivals by name, where no setting that was changed after tests is one of theirs; else ""."""
    rivals = [method for method in names.in_order(names.RIVALS, names.METHOD_NAMES) if method in present]
    same = all(frozen.untouched(study, rivals) == rivals for study in studies)
    return findings.listed([names.method_name(method) for method in rivals]) if same else ""


def other_cost(study: Path) -> str | None:
    """The part of the published report that holds the costs, seen from results/<study>; None where it is not there."""
    return "../full/report.html#cost" if (study.parent / "full" / "tables" / "cost.csv").exists() else None
