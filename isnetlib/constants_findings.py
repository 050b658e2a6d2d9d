"""What constants.csv says: how much of what a changed background does to the answer any heatmap of LRP can show."""

from collections.abc import Iterator

import pandas as pd

from isnetlib.findings import number
from isnetlib.names import METHOD_NAMES, PRIMARY_METHOD, in_order, method_name, name_of_test_set

WORTH = 0.5  # of log-odds: less hardly changes an answer

TERMS = ["change", "pixels_outside", "pixels_inside", "constants_outside", "constants_inside"]
HEAD = ["images", "method", "trainings", "log-odds lost", "from least to most"]
HEAD += ["pixels outside", "pixels inside", "constants outside", "constants inside"]


def means(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over trainings of the terms: a row an experiment and method, with the `least` and the `most` that a training
    loses, `from`, `to`, `label` and `trainings`.
    """
    rows = frame.assign(label=frame["label"].fillna("")).groupby(["experiment", "method"], sort=False)
    ends = [rows["change"].min().rename("least"), rows["change"].max().rename("most")]
    found = rows[TERMS].mean().join([rows[["from", "to", "label"]].first(), *ends, rows.size().rename("trainings")])
    return found.reset_index()


def lines(frame: pd.DataFrame) -> Iterator[list[str]]:
    """Cells under `HEAD`, a line an experiment and method."""
    found = means(frame)
    for experiment in sorted(set(found["experiment"])):
        own = found[found["experiment"] == experiment].set_index("method")
        for method in in_order(own.index, METHOD_NAMES):
            row = own.loc[method]
            name = f"{experiment}, {row['label']}" if row["label"] else experiment
            change, *terms = (number(row[term], 2) for term in TERMS)
            ends = f"{number(row['least'], 2)} to {number(row['most'], 2)}"
            yield [name, method_name(method), str(row["trainings"]), change, ends, *terms]


def path_sentence(frame: pd.DataFrame | None, experiment: str, method: str) -> str:
    """By which of its terms the truth lost log-odds, and whether a heatmap shows them; "" where it was not measured."""
    found = pd.DataFrame() if frame is None else means(frame[frame["experiment"] == experiment])
    if found.empty or method not in set(found["method"]):
        return ""
    row = found.set_index("method").loc[method]
    pixels, constants = (row[f"{kind}_inside"] + row[f"{kind}_outside"] for kind in ("pixels", "constants"))
    hidden = "so the background acts mostly where no heatmap of LRP shows it"
    told = hidden if constants > row["change"] / 2 else "so most of it passes where a heatmap shows it"
    about = f" of {row['label']}" if row["label"] else ""
    ends = f", each {number(row['least'], 2)} to {number(row['most'], 2)}" if row["trainings"] > 1 else ""
    return (
        f"of the {number(row['change'], 2)} that the log-odds of the truth{about} (how far the output speaks for it) "
        f"lose from {name_of_test_set(row['from'])} to {name_of_test_set(row['to'])} cases (mean over "
        f"{row['trainings']} trainings{ends}), {number(pixels, 2)} come from pixels and "
        f"{number(constants, 2)} from constants, which the network adds whatever the image shows (biases, shifts of "
        f"batch normalisation): LRP hands them to no pixel, and ReLUs, units that pass positive values alone, switch "
        f"them on and off; {told} (constants.csv)"
    )


def limit_sentences(frame: pd.DataFrame | None, method: str = PRIMARY_METHOD) -> Iterator[str]:
    """`path_sentence` of the experiments where the method loses at least `WORTH`."""
    found = pd.DataFrame(columns=["experiment"]) if frame is None else means(frame[frame["method"] == method])
    for row in found.itertuples():
        if row.change >= WORTH:
            yield f"{row.experiment}, {method_name(method)}: {path_sentence(frame, row.experiment, method)}."
