"""Does a trained classifier depend on the background? What to ask of a model before it is trusted.

The verdict rests on performance when backgrounds are removed, blurred or swapped, and only then on relevance: a network
may have next to no relevance outside the object and still be decided by the background, where small marks in it move
the scores. Only images with a mask count, the same ones in every row.
"""

from isnetlib.audit.answer import audit, drops, relevance, verdict
from isnetlib.audit.backgrounds import blurred, removed, treated
from isnetlib.audit.boxes import box_area, box_share, pointing_game, score_boxes
from isnetlib.audit.html import figure, page
from isnetlib.audit.images import read_boxes, read_images
from isnetlib.audit.model import Classifier, classes_of_run, load_classifier, read_weights

__all__ = [
    "Classifier",
    "audit",
    "blurred",
    "box_area",
    "box_share",
    "classes_of_run",
    "drops",
    "figure",
    "load_classifier",
    "page",
    "pointing_game",
    "read_boxes",
    "read_images",
    "read_weights",
    "relevance",
    "removed",
    "score_boxes",
    "treated",
    "verdict",
]
