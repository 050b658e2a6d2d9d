"""The names that files, tables, figures and report share, their order, and how a reader is told of them.

A name that is not listed here (a user's own method, test set or experiment) is shown as it stands and comes last.
"""

METHOD_NAMES = {
    "standard": "Standard classifier",
    "pipeline": "U-Net + classifier",
    "multitask": "Multi-task U-Net",
    "attention_gate": "Attention gates",
    "gain": "GAIN",
    "gain_ext": "Extended GAIN",
    "rrr": "Right for the right reasons",
    "grad_input": "ISNet on gradient x input",
    "background_random": "Random backgrounds",
    "vit": "Vision transformer",
    "isnet_original": "ISNet original",
    "isnet_selective": "ISNet selective",
    "isnet_stochastic": "ISNet stochastic",
    "oracle": "Upper bound: true mask at test",
}


# ISNet selective with one thing changed, and what it is; the study of ablations alone has them.
ABLATIONS = {
    "isnet_selective_no_zb": "no z^B",
    "isnet_selective_eps_0": "eps 0",
    "isnet_selective_no_foreground": "no foreground term",
    "isnet_selective_range_150": "foreground range to 150",
    "isnet_selective_decay_0": "decay 0",
    "isnet_selective_decay_0_996": "decay 0.996",
    "isnet_selective_decay_1": "decay 1",
    "isnet_selective_live_statistics": "live BatchNorm statistics",
    "isnet_selective_detached_biases": "detached biases",
    "isnet_selective_block": "eps in the block's way",
    "isnet_selective_every_2": "heatmap loss every 2nd step",
}


# Methods on another network than the experiment's own, and which; the studies of other networks have them.
NETWORKS = {
    "standard_se": "squeeze-excitation",
    "standard_convnext": "ConvNeXt",
    "isnet_se": "squeeze-excitation, gates constant",
    "isnet_se_shared": "squeeze-excitation, gates shared",
    "isnet_convnext": "ConvNeXt",
    "isnet_vit": "vision transformer",
}


TEST_SET_NAMES = {
    "biased": "biased",
    "unbiased": "unbiased",
    "random": "random mark",
    "deceiving": "deceiving",
    "internal": "internal",
    "swapped": "swapped backgrounds",
    "external": "external",
    "hospital_c": "hospital C",
    "hospital_d": "hospital D",
    "shenzhen": "Shenzhen",
    "ieee8023_pneumonia": "pneumonia of a known source",
    "gap": "gap",
}


# Test sets that are like the training data, or on which no background misleads. The claim is about all others: there
# the background misleads (deceiving, swapped), or the images come from sources that training never saw.
AT_HOME = ("biased", "unbiased", "random", "internal")
ELSEWHERE = (
    "external",
    "hospital_c",
    "hospital_d",
    "shenzhen",
    "ieee8023_pneumonia",
)  # test sets whose source, or a class of it, is new

METRIC_NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "auc": "AUC",
    "average_precision": "average precision",
    "background_share": "background share of relevance",
    "chance_share": "background share of the area",
    "logit_change": "change of scores under swapped backgrounds",
    "dice": "Dice overlap of predicted and reference mask",
    "box_hit": "hits of a radiologist's box",
    "box_share": "share of relevance in the boxes",
    "box_chance": "share of the area in the boxes",
}


# One primary metric an experiment; a name with a suffix (digits_sim, faces_planted) takes the one of its stem.
PRIMARY_METRIC = {"digits": "accuracy", "tuberculosis": "auc", "faces": "auc", "covid": "macro_f1"}
OWN_DATA = "folder"  # the experiment of anybody's own images, whose classes say how it is judged
LOWER_IS_BETTER = {"background_share", "chance_share", "logit_change"}
BOUNDS = {
    "accuracy": (0.0, 1.0),
    "macro_f1": (0.0, 1.0),
    "auc": (0.0, 1.0),
    "average_precision": (0.0, 1.0),
    "background_share": (0.0, 1.0),
    "chance_share": (0.0, 1.0),
    "dice": (0.0, 1.0),
    "box_hit": (0.0, 1.0),
    "box_share": (0.0, 1.0),
    "box_chance": (0.0, 1.0),
}


# The primary comparison, named before any external test: this method against these five.
PRIMARY_METHOD = "isnet_selective"
EQUIVALENCE_MARGIN = 0.02  # of accuracy, macro F1, AUC or share: a method "matches" another to within two points
EQUIVALENCE_MARGINS = {("faces", "auc"): 0.03}  # other ones, by experiment and metric, named before any run of theirs
RIVALS = ("standard", "multitask", "attention_gate", "gain_ext", "pipeline")
UPPER_BOUNDS = ("oracle",)  # shown, but compared with nothing: they see at test time what no method is given

# Goals named before the runs: (method or start of its name, test set, metric, at least or at most, value).
GOALS = {
    "digits": [
        ("standard", "biased", "accuracy", "at least", 0.97),
        ("standard", "deceiving", "accuracy", "at most", 0.30),
        *(("isnet", test_set, "accuracy", "at least", 0.95) for test_set in ("biased", "unbiased", "deceiving")),
        ("isnet", "gap", "accuracy", "at most", 0.01),
        *(("isnet", test_set, "background_share", "at most", 0.05) for test_set in ("biased", "unbiased", "deceiving")),
    ],
    "tuberculosis_planted": [
        ("standard", "deceiving", "auc", "at most", 0.10),
        ("isnet", "gap", "auc", "at most", 0.03),
    ],
    "faces": [("isnet", "internal", "background_share", "at most", 0.05)],
    "faces_planted": [
        ("isnet", "gap", "auc", "at most", 0.03),
        *(("isnet", test_set, "background_share", "at most", 0.05) for test_set in ("biased", "unbiased", "deceiving")),
    ],
}

# The one label that the background tells, where images have several.
ADDED_LATER = ("tuberculosis_augmented_sim",)  # because of what other experiments had shown
PLANTED_LABEL = {"faces_planted": "Mouth_Open", "faces_sim": "Smiling"}

# Experiments that show a limit, where ISNet should do worse: no part of the claim.
LIMITS = {"faces_outside": "What is asked for (hat, earrings) lies outside the mask, where ISNet was expected to lose."}

# The studies in the order of a report, and what each asks.
STUDY_SENTENCES = {
    "full": "Does ISNet ignore backgrounds that are planted or simulated, and how do all other methods do?",
    "real": "The same question on real images; chest X-rays of mixed sources are tested on sources that training never "
    "saw, too.",
    "ablations": "Which part of ISNet does the work? One thing changed at a time.",
    "backbones": "Does it work in other families of convolutional networks, and does anything pass through gates?",
    "transformers": "Does it work in a vision transformer, where attention weights are held constant?",
    "paper": "The papers' own size of images and network, for whoever has a GPU.",
    "quick": "The digits, and simulated films and faces, in half an hour.",
    "smoke": "Every part on tiny data: says nothing about the methods.",
}
LOCAL_STUDIES = ("quick", "smoke", "paper")  # for everyone to run; not published here

# The audit of a trained classifier: thresholds, named before any model was looked at.
AUDIT_DROP = (
    0.05  # of AUC or macro F1: about what a test set of 500 cases can show; a smaller fall changes few decisions
)
AUDIT_SHARE = 0.5  # of the background's share of the area: relevance spread at random has all of it
AUDIT_USEFUL = 0.6  # AUC or macro F1: a model near chance has nothing to lose, so no fall clears it
AUDIT_NAMES = {"as_it_is": "as it is", "removed": "removed", "blurred": "blurred", "swapped": "swapped"}
AUDIT_VERDICTS = {
    "depends": "The model depends on the background.",
    "undecided": "These images do not decide whether the model depends on the background.",
    "look closer": "Performance holds without the background, but relevance lies outside: look closer.",
    "not shown": "No dependence on the background was shown on these images.",
}

# Of modules that import torch, which tables and reports can do without.
BACKBONES = {"vit": "small_vit"}  # as baselines.BACKBONES
WORKS = 0.6  # as train.WORKS


def primary_metric(experiment: str) -> str:
    """The metric by which an experiment is judged: `PRIMARY_METRIC`, else accuracy."""
    return PRIMARY_METRIC.get(experiment.split("_")[0], "accuracy")


def margin(experiment: str, metric: str) -> float:
    """By how much two methods may differ on a metric of an experiment and still match."""
    return EQUIVALENCE_MARGINS.get((experiment, metric), EQUIVALENCE_MARGIN)


def data_kind(experiment: str) -> str:
    """How much of an experiment's images is real, in a few words: "simulated", "real", "real, bias planted", or that
    they are somebody's own.
    """
    stem, _, rest = experiment.partition("_")
    if experiment.endswith("_sim"):
        return "simulated"
    if stem not in PRIMARY_METRIC:
        return "own data"
    return "real, bias planted" if stem == "digits" or rest.endswith("planted") else "real"


def is_home(test_set: str) -> bool:
    """Whether a test set is no part of the claim: it is one of `AT_HOME`, or the gap."""
    return test_set in (*AT_HOME, "gap")


def method_name(method: str) -> str:
    changed = ABLATIONS.get(method) or NETWORKS.get(method)
    return f"{METHOD_NAMES[base_of(method)]}, {changed}" if changed else METHOD_NAMES.get(method, method)


def base_of(method: str) -> str:
    """Of what method one of `ABLATIONS` or `NETWORKS` is a variant."""
    return "standard" if method.startswith("standard") else PRIMARY_METHOD


def name_of_test_set(test_set: str) -> str:
    return TEST_SET_NAMES.get(test_set, test_set)


def metric_name(metric: str) -> str:
    return METRIC_NAMES.get(metric, metric.replace("_", " "))


def in_order(values, known) -> list:
    """The distinct values, those of `known` first and in its order, the others after them by alphabet."""
    rank = {name: k for k, name in enumerate(known)}
    return sorted(set(values), key=lambda value: (rank.get(value, len(rank)), str(value)))
