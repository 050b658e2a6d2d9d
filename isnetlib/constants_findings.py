"""What constants.csv says: how much of what a changed background does to the answer any heatmap of LRP can show."""

from collections.abc import Iterator

import pandas as pd

from isnetlib.findings import number
from isnetlib.names import METHOD_NAMES, PRIMARY_METHOD, in_order, method_name, name_of_test_set

WORTH = 0.5  # of log-odds: less hardly changes an answer

TERMS = ["change", "pixels_outside", "pixels_inside", "constants_outside", "constants_inside"]
HEAD = ["images", "method", "trainings", "log-odds lost", "pixels outside", "pixels inside"]
HEAD += ["constants outside", "constants inside"]


def means(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over trainings of the terms: a row an experiment and method, with `from`, `to`, `label` and `trainings`."""
    keys = ["experiment", "method"]
    rows = frame.assign(label=frame["label"].fillna("")).groupby(keys, sort=False)
    found = rows[TERMS].mean().join(rows[["from", "to", "label"]].first()).join(rows.size().rename("trainings"))
    return found.reset_index()


def lines(frame: pd.DataFrame) -> Iterator[list[str]]:
    """Cells under `HEAD`, a line an experiment and method."""
    found = means(frame)
    for experiment in sorted(set(found["experiment"])):
        own = found[found["experiment"] == experiment].set_index("method")
        for method in in_order(own.index, METHOD_NAMES):
            row = own.loc[method]
            name = f"{experiment}, {row['label']}" if row["label"] else experiment
            yield [name, method_name(method), str(row["trainings"]), *(number(row[term], 2) for term in TERMS)]


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
    return (
        f"of the {number(row['change'], 2)} that the log-odds of the truth{about} lose from "
        f"{name_of_test_set(row['from'])} to {name_of_test_set(row['to'])} cases (mean over {row['trainings']} "
        f"trainings), {number(pixels, 2)} come from pixels and {number(constants, 2)} from constants of the network "
        f"(biases, shifts of batch normalisation), which LRP hands to no pixel and which ReLUs switch on and off; "
        f"{told} (constants.csv)"
    )


def limit_sentences(frame: pd.DataFrame | None, method: str = PRIMARY_METHOD) -> Iterator[str]:
    """`path_sentence` of the experiments where the method loses at least `WORTH`."""
    found = pd.DataFrame(columns=["experiment"]) if frame is None else means(frame[frame["method"] == method])
    for row in found.itertuples():
        if row.change >= WORTH:
            yield f"{row.experiment}, {method_name(method)}: {path_sentence(frame, row.experiment, method)}."
