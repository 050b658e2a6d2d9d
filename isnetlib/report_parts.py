"""Parts of a report that are about all experiments together: what training and predicting cost, and coverage."""

from pathlib import Path

import pandas as pd

from isnetlib import cost_findings, findings, pages


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
        name = findings.variant_name(row["variant"], row["maps"])
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


def figure_of(study: Path, stem: str, alt: str, notebook: str) -> dict:
    """A figure of results/<study>/figures for a page, made by a notebook."""
    return pages.picture(study / "figures", stem, alt, f"notebook {notebook}")
