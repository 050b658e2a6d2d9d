"""The names that files, tables, figures and reports share, their order, and what was fixed before the runs.

names.csv lists them with the colour and marker of each method: methods of most studies, ISNet selective with one thing
changed (ablation), methods on another network than the experiment's own (network), test sets and metrics. A name that
it lacks (a user's own method, test set or experiment) is shown as it stands and comes last.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

TABLE = pd.read_csv(Path(__file__).with_suffix(".csv"), index_col="key", dtype=str)
NAMES = TABLE["name"].to_dict()
METHOD_NAMES, TEST_SET_NAMES = (list(TABLE.index[TABLE["kind"] == kind]) for kind in ("method", "test set"))
# Like the training data, or where no background misleads. The claim is about all others, where the background misleads
# (deceiving, swapped), or the images come from sources that training never saw.
AT_HOME = ("biased", "unbiased", "random", "internal", "gap")
# One primary metric an experiment; a name with a suffix (tuberculosis_sim, faces_planted) takes that of its stem.
PRIMARY_METRIC = {"digits": "accuracy", "tuberculosis": "auc", "faces": "auc", "covid": "macro_f1"}
OWN_DATA = "folder"  # the experiment of anybody's own images, whose classes say how it is judged

# The primary comparison, named before any external test: this method against these six. The last of them, which had
# done best, was named after the tests of the studies of `FIVE`, and before those of `AGAIN`, made anew later.
PRIMARY_METHOD = "isnet_selective"
RIVALS = ("standard", "multitask", "attention_gate", "gain_ext", "pipeline", "background_random")
FIVE, AGAIN = ("full", "real"), ("tuberculosis_planted",)
UPPER_BOUNDS = ("oracle",)  # shown, but compared with nothing: they see at test time what no method is given
MARGIN = 0.02  # of accuracy, macro F1, AUC or share: a method "matches" another to within two points
MARGINS = {("faces", "auc"): 0.03}  # other ones, by experiment and metric, named before any run of theirs

LIMITS = ("faces_outside",)  # experiments that show a limit, where ISNet was expected to lose: no part of the claim
PLANTED_LABEL = {"faces_planted": "Mouth_Open", "faces_sim": "Smiling"}  # of several, the one the background tells
LOCAL_STUDIES = ("quick", "smoke", "paper")  # for everyone to run; not published here


def primary_metric(experiment: str) -> str:
    """The metric by which an experiment is judged: `PRIMARY_METRIC`, else accuracy."""
    return PRIMARY_METRIC.get(experiment.split("_")[0], "accuracy")


def rivals(study: str, experiment: str) -> tuple[str, ...]:
    return RIVALS[:5] if study in FIVE and experiment not in AGAIN else RIVALS


def shown(name: str) -> str:
    """How a method, test set or metric is called in tables and figures."""
    return NAMES.get(name, name)


def in_order(values: Iterable, known: Iterable) -> list:
    """The distinct values, those of `known` first and in its order, the others after them by alphabet."""
    rank = {name: k for k, name in enumerate(known)}
    return sorted(set(values), key=lambda value: (rank.get(value, len(rank)), str(value)))
