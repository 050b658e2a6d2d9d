"""The recipe's declared versions: what a run was made by, in four integers.

A run stores the versions of the relevance pass, of the training (with selection and testing), of its method and of its
data; it is stale where one of them is another now. Raise a version by one where the numbers of that part change for the
same parameters: a rule, a default, an order of operations or of random draws; not for a new name, a new option that is
off, or the same numbers made faster. `tests/test_golden.py` holds digests of each part's numbers and fails where they
change under the same version. A method's version covers its module and its network; segmenter is that of predicted
masks (notebook 08), which are data to a run.
"""

from isnetlib.study.config import StudyError

RECIPE = {
    "relevance": 1, "training": 1, "segmenter": 1,
    "methods": {
        "standard": 1, "gain": 1, "gain_ext": 1, "rrr": 1, "grad_input": 1, "background_random": 1, "pipeline": 1,
        "multitask": 1, "attention_gate": 1, "vit": 1, "oracle": 1,
        "isnet_original": 1, "isnet_selective": 1, "isnet_stochastic": 1, "isnet_background": 1,
    },
    "data": {
        "digits": 1, "folder": 1,
        "tuberculosis": 1, "tuberculosis_planted": 1, "covid": 1, "faces": 1, "faces_planted": 1, "faces_outside": 1,
        "tuberculosis_sim": 1, "tuberculosis_look_sim": 1,
        "covid_sim": 1, "faces_sim": 1,
    },
}  # fmt: skip


def versions(experiment: str, method: str) -> dict[str, int]:
    """The four versions of a run: relevance, training, method, data. method: the one that is built, a key of
    `isnetlib.baselines.METHODS`. StudyError for a name without a version.
    """
    for name, part in ((method, "methods"), (experiment, "data")):
        if name not in RECIPE[part]:
            raise StudyError(f"{name!r} has no version in isnetlib/study/recipe.py: add it to {part}")
    own = {"method": RECIPE["methods"][method], "data": RECIPE["data"][experiment]}
    return {part: RECIPE[part] for part in ("relevance", "training")} | own
