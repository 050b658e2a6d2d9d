"""The names that files, tables, figures and reports share, their order, and what was fixed before the runs.

A name that is not listed here (a user's own method, test set or experiment) is shown as it stands and comes last.
"""

from collections.abc import Iterable


def _table(text: str, prefix: str = "") -> dict[str, str]:
    """prefix + key -> name, from "key: name; key: name"."""
    return {prefix + key: name for key, name in (pair.split(": ", 1) for pair in " ".join(text.split()).split("; "))}


METHOD_NAMES = _table("""standard: Standard classifier; pipeline: U-Net + classifier; multitask: Multi-task U-Net;
    attention_gate: Attention gates; gain: GAIN; gain_ext: Extended GAIN; rrr: Right for the right reasons;
    grad_input: ISNet on gradient x input; background_random: Random backgrounds; vit: Vision transformer;
    isnet_original: ISNet original; isnet_selective: ISNet selective; isnet_stochastic: ISNet stochastic;
    isnet_background: ISNet on random backgrounds;
    oracle: Upper bound: true mask at test""")
# ISNet selective with one thing changed, and what it is; the study of ablations alone has them.
ABLATIONS = _table(
    """no_zb: no z^B; eps_0: eps 0; no_foreground: no foreground term; range_150: foreground range to 150;
    decay_0: decay 0; decay_0_996: decay 0.996; decay_1: decay 1; live_statistics: live BatchNorm statistics;
    detached_biases: detached biases; block: eps in the block's way; every_2: heatmap loss every 2nd step;
    constant: P constant; falling: P falling; steered: P steered""",
    prefix="isnet_selective_",
)
# Methods on another network than the experiment's own, and which; the studies of other networks have them.
NETWORKS = _table("""standard_se: squeeze-excitation; standard_convnext: ConvNeXt;
    isnet_se: squeeze-excitation, gates constant; isnet_se_shared: squeeze-excitation, gates shared;
    isnet_convnext: ConvNeXt; isnet_vit: vision transformer""")
TEST_SET_NAMES = _table("""biased: biased; unbiased: unbiased; random: random mark; deceiving: deceiving;
    internal: internal; swapped: swapped backgrounds; external: external; hospital_c: hospital C;
    hospital_d: hospital D; shenzhen: Shenzhen; montgomery: Montgomery;
    ieee8023_pneumonia: pneumonia of a known source; gap: gap""")
# Like the training data, or where no background misleads. The claim is about all others, where the background misleads
# (deceiving, swapped), or the images come from sources that training never saw.
AT_HOME = ("biased", "unbiased", "random", "internal", "gap")
METRIC_NAMES = _table("""accuracy: accuracy; macro_f1: macro F1; auc: AUC;
    background_share: background share of relevance; chance_share: background share of the area""")
# One primary metric an experiment; a name with a suffix (tuberculosis_sim, faces_planted) takes that of its stem.
PRIMARY_METRIC = {"digits": "accuracy", "tuberculosis": "auc", "faces": "auc", "covid": "macro_f1"}
OWN_DATA = "folder"  # the experiment of anybody's own images, whose classes say how it is judged

# The primary comparison, named before any external test: this method against these six. The last of them, which had
# done best, was named after the tests of the studies of `FIVE`.
PRIMARY_METHOD = "isnet_selective"
RIVALS = ("standard", "multitask", "attention_gate", "gain_ext", "pipeline", "background_random")
FIVE = ("full", "real")
UPPER_BOUNDS = ("oracle",)  # shown, but compared with nothing: they see at test time what no method is given
MARGIN = 0.02  # of accuracy, macro F1, AUC or share: a method "matches" another to within two points
MARGINS = {("faces", "auc"): 0.03}  # other ones, by experiment and metric, named before any run of theirs

LIMITS = ("faces_outside",)  # experiments that show a limit, where ISNet was expected to lose: no part of the claim
PLANTED_LABEL = {"faces_planted": "Mouth_Open", "faces_sim": "Smiling"}  # of several, the one the background tells
LOCAL_STUDIES = ("quick", "smoke", "simulated_next", "paper")  # for everyone to run; not published here

NAMES = METHOD_NAMES | TEST_SET_NAMES | METRIC_NAMES
for _method, _changed in (ABLATIONS | NETWORKS).items():
    NAMES[_method] = METHOD_NAMES["standard" if _method.startswith("standard") else PRIMARY_METHOD] + f", {_changed}"


def primary_metric(experiment: str) -> str:
    """The metric by which an experiment is judged: `PRIMARY_METRIC`, else accuracy."""
    return PRIMARY_METRIC.get(experiment.split("_")[0], "accuracy")


def rivals(study: str) -> tuple[str, ...]:
    """The planned rivals of a study."""
    return RIVALS[:5] if study in FIVE else RIVALS


def shown(name: str) -> str:
    """How a method, test set or metric is called in tables and figures."""
    return NAMES.get(name, name)


def in_order(values: Iterable, known: Iterable) -> list:
    """The distinct values, those of `known` first and in its order, the others after them by alphabet."""
    rank = {name: k for k, name in enumerate(known)}
    return sorted(set(values), key=lambda value: (rank.get(value, len(rank)), str(value)))
