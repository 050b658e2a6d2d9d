"""Sentences that follow from the cost tables: cost.csv, classes.csv, explain.csv."""

from collections.abc import Iterator

import pandas as pd

from isnetlib.findings import cell, variant_name
from isnetlib.names import PRIMARY_METHOD, method_name


def sentences(frames: dict[str, pd.DataFrame]) -> Iterator[str]:
    """What the cost tables that are there say, of the columns that they have. frames: `tables.read`."""
    if "classes" in frames:
        yield from classes_sentences(frames["classes"])
    if "cost" in frames:
        yield from run_time_sentences(frames["cost"])
        yield from bf16_sentences(frames["cost"])


def settings(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows measured together: one network, image size and batch each, in the table's order."""
    return [rows for _, rows in frame.groupby(["network", "size", "batch"], sort=False)]


def setting_name(rows: pd.DataFrame) -> str:
    first = rows.iloc[0]
    return f"{first['network']}, {first['size']} px, batch {first['batch']}"


def classes_title(rows: pd.DataFrame) -> str:
    """Each ISNet at its fewest and most classes, in plain steps. rows: classes.csv of one setting."""
    told = []
    for variant, own in rows[rows["maps"] > 0].groupby("variant", sort=False):
        own = own.sort_values("class_count")
        few, many = own.iloc[0], own.iloc[-1]
        told.append(
            f"{method_name(variant)} {few['ratio_to_plain_step']:.2f} plain steps at {few['class_count']} classes, "
            f"{many['ratio_to_plain_step']:.2f} at {many['class_count']}"
        )
    return "; ".join(told)


def classes_sentences(frame: pd.DataFrame) -> Iterator[str]:
    """Cost against the number of classes, by setting; and what the most cost one map against the fewest."""
    for rows in settings(frame):
        yield f"{setting_name(rows)}: {classes_title(rows)}."
        own = rows[rows["variant"] == PRIMARY_METHOD].sort_values("class_count")
        if len(own) > 1:
            few, many = own.iloc[0], own.iloc[-1]
            yield (
                f"There a step of {method_name(PRIMARY_METHOD)} with {many['class_count']} classes takes "
                f"{many['ratio_to_fewest_classes']:.2f} times one with {few['class_count']}."
            )


def run_time(cost: pd.DataFrame) -> pd.DataFrame:
    """Rows of cost.csv that are predictions; settings with a method of two networks (`pipeline`) alone."""
    if "parameters" not in cost:
        return cost[:0]
    rows = cost.dropna(subset="ratio_to_plain_inference")
    return rows.groupby(["network", "size", "batch"], sort=False).filter(lambda own: "pipeline" in set(own["variant"]))


def run_time_sentences(cost: pd.DataFrame) -> Iterator[str]:
    """Predictions of the primary method and of the pipeline, in plain predictions and in parameters."""
    for rows in settings(run_time(cost)):
        ours, other = (cell(rows, variant=name) for name in (PRIMARY_METHOD, "pipeline"))
        if ours is None:
            continue
        yield (
            f"{setting_name(rows)}: a prediction by {method_name(PRIMARY_METHOD)} takes "
            f"{ours['ratio_to_plain_inference']:.2f} plain ones with {ours['parameters'] / 1e6:.1f} million parameters"
            f", by {method_name('pipeline')} {other['ratio_to_plain_inference']:.2f} with "
            f"{other['parameters'] / 1e6:.1f} million."
        )


def bf16_sentences(cost: pd.DataFrame) -> Iterator[str]:
    """What bf16 saves of a training step, and how near its heatmaps are to those in fp32."""
    if "cosine_to_fp32" not in cost:
        return
    for row in cost[cost["variant"].str.endswith("+bf16") & (cost["phase"] == "training")].to_dict("records"):
        same = cost[(cost[["network", "size", "batch"]] == [row[k] for k in ("network", "size", "batch")]).all(axis=1)]
        fp32 = cell(same, variant=row["variant"].removesuffix("+bf16"), phase="training")
        yield (
            f"{row['network']}, {row['size']} px: {variant_name(row['variant'], row['maps'])} takes "
            f"{row['seconds'] / fp32['seconds']:.2f} of the time of fp32; smallest cosine of a heatmap to fp32 "
            f"{row['cosine_to_fp32']:.4f}."
        )
