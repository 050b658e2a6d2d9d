"""Sentences that follow from the cost tables, and their lines for people: cost.csv, classes.csv, explain.csv,
architectures.csv. Ratios have two decimals.
"""

import re
from collections.abc import Iterator

import pandas as pd

from isnetlib.findings import cell, number
from isnetlib.names import PRIMARY_METHOD, UPPER_BOUNDS, method_name


def sentences(frames: dict[str, pd.DataFrame]) -> Iterator[str]:
    """What the cost tables that are there say, of the columns that they have. frames: `tables.read`."""
    if "classes" in frames:
        yield from classes_sentences(frames["classes"])
    if "cost" in frames:
        yield from run_time_sentences(frames["cost"])
        yield from error_sentences(frames["cost"])
        yield from bf16_sentences(frames["cost"])


def settings(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows measured together: one network, image size and batch each, in the table's order."""
    return [rows for _, rows in frame.groupby(["network", "size", "batch"], sort=False)]


def setting_name(rows: pd.DataFrame) -> str:
    first = rows.iloc[0]
    return f"{first['network']}, {first['size']} px, batch {first['batch']}"


def ratio(value: float) -> str:
    """Two decimals; a missing value is empty."""
    return "" if pd.isna(value) else number(value, 2)


def classes_title(rows: pd.DataFrame) -> str:
    """Each ISNet at its fewest and most classes, in plain steps. rows: classes.csv of one setting."""
    told = []
    for variant, own in rows[rows["maps"] > 0].groupby("variant", sort=False):
        own = own.sort_values("class_count")
        few, many = own.iloc[0], own.iloc[-1]
        told.append(
            f"{method_name(variant)} {ratio(few['ratio_to_plain_step'])} plain steps at {few['class_count']} classes, "
            f"{ratio(many['ratio_to_plain_step'])} at {many['class_count']}"
        )
    return "; ".join(told)


def classes_sentences(frame: pd.DataFrame) -> Iterator[str]:
    """Seconds of a step with the fewest classes and with the most, by setting: of each ISNet, and of the plain step."""
    for rows in settings(frame):
        told = [
            f"{method_name(variant)} {_change(own)}"
            for variant, own in rows[rows["maps"] > 0].groupby("variant", sort=False)
        ]
        plain = rows[rows["variant"] == "standard"]
        beside = f"; beside it, the plain step {_change(plain)}" if len(plain) else ""
        if told:
            yield f"{setting_name(rows)}, seconds of a step: {'; '.join(told)}{beside}."


def _change(rows: pd.DataFrame) -> str:
    """From the fewest to the most classes of a variant: seconds, and the second as a multiple of the first."""
    own = rows.sort_values("class_count")
    few, many = own.iloc[0], own.iloc[-1]
    told = f"{number(few['seconds'])} with {few['class_count']} classes"
    if len(own) == 1:
        return told
    times = ratio(many["seconds"] / few["seconds"])
    return f"{told}, {number(many['seconds'])} with {many['class_count']} ({times} times as long)"


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
            f"{ratio(ours['ratio_to_plain_inference'])} plain ones with {ours['parameters'] / 1e6:.1f} million "
            f"parameters, by {method_name('pipeline')} {ratio(other['ratio_to_plain_inference'])} with "
            f"{other['parameters'] / 1e6:.1f} million."
        )


def run_time_title(cost: pd.DataFrame) -> str:
    """The first of `run_time_sentences` in brief, with what the same network takes under other names; "" without."""
    for rows in settings(run_time(cost)):
        ours, other = (cell(rows, variant=name) for name in (PRIMARY_METHOD, "pipeline"))
        if ours is not None and (found := same_network(cost)):
            two = f"{method_name('pipeline')} takes {ratio(other['ratio_to_plain_inference'])} plain ones"
            own = f"{method_name(PRIMARY_METHOD)} {ratio(ours['ratio_to_plain_inference'])}"
            error = f"one network under other names: {ratio(min(found))} to {ratio(max(found))}"
            return f"{setting_name(rows)}: a prediction by\n{two},\nby {own} ({error})"
    return ""


def same_network(cost: pd.DataFrame) -> list[float]:
    """Predictions of methods that use the plain classifier alone, as many parameters tell, in plain predictions."""
    found = []
    rows = cost.dropna(subset="ratio_to_plain_inference") if "parameters" in cost else cost[:0]
    for own in settings(rows[~rows["variant"].isin(UPPER_BOUNDS)]):  # which mask the image as well
        plain = cell(own, variant="standard")
        if plain is not None:
            same = own[(own["parameters"] == plain["parameters"]) & (own["variant"] != "standard")]
            found += list(same["ratio_to_plain_inference"])
    return found


def error_sentences(cost: pd.DataFrame) -> Iterator[str]:
    """By how much the times of the `same_network` differ."""
    if found := same_network(cost):
        yield (
            f"Predictions by the same network, under the names of different methods, take from {ratio(min(found))} to "
            f"{ratio(max(found))} plain ones: these times have an error of that size, and smaller differences mean "
            "nothing."
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
            f"{ratio(row['seconds'] / fp32['seconds'])} of the time of fp32; smallest cosine of a heatmap to fp32 "
            f"{row['cosine_to_fp32']:.4f}."
        )


def explain_lines(frame: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """explain.csv for people: network, tool, time in forward passes, and why a tool has no number: "fails (its error)",
    or what the table says.
    """
    found = []
    for row in frame.to_dict("records"):
        note = "" if pd.isna(row["note"]) else FAILED.sub(r"fails (\1)", row["note"])
        found.append((f"{row['network']}, {row['size']} px", row["tool"], ratio(row["ratio_to_forward"]), note))
    return found


FAILED = re.compile(r"^(\w+): .*$", re.DOTALL)  # name and message of an exception


def architecture_lines(frame: pd.DataFrame) -> list[tuple[str, ...]]:
    """architectures.csv for people, by `ARCHITECTURE_COLUMNS`."""
    found = []
    for row in frame.to_dict("records"):
        errors = ["" if pd.isna(row[name]) else f"{row[name]:.0e}" for name in ("identity_error", "conservation")]
        supported = "yes" if row["supported"] else f"no: {row['reason']}"
        found.append((row["network"], supported, *errors, ratio(row["ratio_one_map"])))
    return found


ARCHITECTURE_COLUMNS = ("network", "supported", "identity error", "conservation error", "one map / plain step")


def variant_name(variant: str, maps: float) -> str:
    """A variant of cost.csv for people: the method, its departures (after +), and its maps where there are several."""
    method, *departures = variant.split("+")
    return " + ".join([method_name(method), *departures]) + (f", {maps:.0f} maps" if maps > 1 else "")
