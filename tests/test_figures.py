import io

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from isnetlib.report import figures, names


def drawn(fig):
    """By panel: title, markers (x, y, face), and where the other lines begin and end; the first is the line at 0."""
    found = []
    for ax in fig.axes:
        marks = [line for line in ax.lines if line.get_marker() != "None"]
        spans = [tuple(np.ravel(line.get_xdata())) for line in ax.lines if line.get_marker() == "None"]
        marks = [(line.get_xdata()[0], line.get_ydata()[0], line.get_mfc()) for line in marks]
        found.append((ax.get_title().replace("\n", " "), marks, spans))
    return found


def test_every_method_has_a_look_of_its_own():
    looks = [figures.look(method) for method in names.METHOD_NAMES]
    assert len({colour for colour, _ in looks}) == len({marker for _, marker in looks}) == len(names.METHOD_NAMES)
    for kind in ("ablation", "network"):
        group = names.TABLE.index[names.TABLE["kind"] == kind]
        assert len({tuple(figures.look(method)) for method in group}) == len(group) > 1
    assert figures.look("mine") not in [figures.look(method) for method in figures.LOOKS]


def test_ladders_draw_what_the_frame_holds():
    frame = pd.DataFrame({"row": ["a", "auc"], "value": [0.4, 0.6], "low": [0.3, np.nan], "high": [0.5, np.nan]})
    frame = frame.assign(method=["standard", "rrr"], filled=[True, False], dashed=[False, True])
    fig = figures.ladders({"C": frame}, ["a", "auc"], "score")
    ((title, marks, (_, span, none)),) = drawn(fig)
    assert (title, span) == ("C", (0.3, 0.5)) and np.isnan(none).all()
    assert marks == [(0.4, 0, figures.look("standard")[0]), (0.6, 1, "white")]
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == ["a", "AUC"]
    assert [line.is_dashed() for line in fig.axes[0].lines if len(line.get_xdata()) == 2] == [False, False, True]


def comparisons():
    rows = [
        ("a, deceiving", "pipeline", -0.1, -0.2, 0.0, "behind", "cases x seeds"),
        ("a, deceiving", "standard", 0.3, 0.2, 0.4, "ahead", "cases x seeds"),
        ("b, external", "standard", 0.0, -0.1, 0.1, "no difference shown", "cases"),
    ]
    return pd.DataFrame(rows, columns="row b difference low high verdict unit".split())


def test_a_forest_has_a_panel_a_rival_and_fills_what_is_shown():
    fig = figures.forest_figure(comparisons())
    (first, marks, spans), (second, others, _) = drawn(fig)
    assert (first, second) == ("Standard classifier", "U-Net + classifier")
    assert marks == [(0.3, 0, figures.look("standard")[0]), (0.0, 1, "white")]
    assert others == [(-0.1, 0, figures.look("pipeline")[0])]
    assert spans[1:] == [(0.2, 0.4), (-0.1, 0.1)]  # the first is the line at 0
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == ["a, deceiving", "b, external"]
    assert [line.is_dashed() for line in fig.axes[0].lines if len(line.get_xdata()) == 2][1:] == [False, True]


def test_scores_show_the_interval_over_cases_and_trainings_or_else_over_cases():
    frame = pd.DataFrame({"method": ["isnet_selective", "oracle"], "mean": [0.7, 0.9], "both_low": [0.6, np.nan]})
    frame = frame.assign(both_high=[0.8, np.nan], cases_low=[0.65, 0.85], cases_high=[0.75, 0.95])
    frame = frame.assign(test_set="deceiving", metric="auc")
    fig = figures.scores_figure(frame)
    ((title, marks, spans),) = drawn(fig)
    assert title == "deceiving" and spans[1:] == [(0.6, 0.8), (0.85, 0.95)]
    assert [mark[2] == "white" for mark in marks] == [False, True]  # an upper bound is hollow
    assert fig.axes[0].get_xlabel() == "AUC"


def test_cost_shows_multiples_of_the_plain_step():
    frame = pd.DataFrame({"variant": ["standard", "isnet_selective", "isnet_selective+bf16", "isnet_selective"]})
    frame = frame.assign(network="resnet18", size=224, phase=["training"] * 3 + ["inference"])
    frame = frame.assign(ratio_to_plain_step=[1, 2.1, 1.5, np.nan], ratio_to_plain_inference=[np.nan] * 3 + [1.0])
    (step, marks, _), (prediction, others, _) = drawn(figures.cost_figure(frame))
    assert (step, prediction) == ("resnet18 224 px training", "resnet18 224 px prediction")
    assert [mark[0] for mark in marks] == [1, 2.1] and [mark[0] for mark in others] == [1.0]


def test_curves_have_two_lines_a_seed_and_the_course_of_a_training_is_drawn_from_its_log():
    logs = pd.DataFrame({"method": ["standard", "mine"], "seed": 0, "val_auc": [0.9, 0.8]})
    logs = logs.assign(swapped_auc=0.1, epoch=0)
    fig = figures.curves_figure(pd.concat([logs, logs.assign(seed=1)]), "auc")
    (ax,) = fig.axes
    assert [line.get_ydata()[0] for line in ax.lines] == [0.9, 0.1, 0.9, 0.1] and ax.get_ylabel() == "AUC"
    assert figures.curves_figure(logs[logs["method"] == "mine"], "auc").axes  # where none is known, all are drawn
    log = pd.DataFrame({"epoch": [0, 1], "seed": 0, "val_auc": 0.9, "swapped_auc": 0.8, "P": [0.9, 0.4]})
    log = log.assign(classification=0.6, background=[0.5, 0.1], net_share=0.2)
    logs = pd.concat([log.assign(method="isnet_selective"), log.assign(method="isnet_selective_constant", seed=1)])
    axes = np.reshape(figures.training_figure(logs, "auc").axes, (4, 2))
    assert [ax.get_title() for ax in axes[0]] == ["P constant", "P steered"]
    assert [list(line.get_ydata()) for line in axes[1, 1].lines] == [[0.9, 0.4]]
    assert [list(line.get_ydata()) for line in axes[2, 0].lines] == [[0.6, 0.6], [0.5, 0.1]]


def test_the_search_rings_the_chosen_value_at_the_lower_score():
    trials = pd.DataFrame({"experiment": "digits", "method": "rrr", "chosen": [False, True], "score": [0.2, 0.4]})
    line, ring = figures.search_figure(trials).axes[0].lines
    assert list(line.get_ydata()) == [0.2, 0.4] and (ring.get_xdata()[0], ring.get_ydata()[0]) == (2, 0.4)


def maps(images=True, several=False):
    rng, found = np.random.default_rng(0), {}
    for method in ("standard", "isnet_selective"):
        found[method] = {}
        for name in ("biased", "unbiased", "deceiving"):
            parts = {"relevance": rng.normal(size=(2, 6, 6)).astype("float16"), "mask": np.ones((2, 6, 6), bool)}
            parts["mask"][:, :2] = False
            parts |= {"y": np.array([1, 0]), "p": np.array([[0.1, 0.9], [0.8, 0.2]])}
            if several:
                parts |= {"y": np.array([[1, 0], [0, 0]]), "p": np.array([[0.4, 0.2], [0.1, 0.2]])}
            if images:
                parts["x"] = rng.integers(0, 255, (2, 6, 6), dtype="uint8")
            found[method] |= {f"{key}_{name}": value for key, value in parts.items()}
    return found


@pytest.mark.parametrize("images", [True, False])
def test_heatmaps_show_images_only_where_they_are_kept(images):
    given = maps(images)
    given["standard"]["relevance_biased"][:] = np.tile([-1, 1], (2, 6, 3))
    fig = figures.heatmaps_figure(given, ["no", "yes"])
    assert len(fig.axes) == 2 * (2 + images)  # unbiased cases are left out
    shown = [ax.images[0] for ax in fig.axes]
    assert sum(image.get_cmap().name == "gray" for image in shown) == 2 * images
    relevance = given["standard"]["relevance_biased"][0].astype(float)
    np.testing.assert_allclose(shown[images].get_array(), relevance / np.abs(relevance).sum())
    assert shown[images].get_clim() == shown[images + 1].get_clim()  # one scale for all methods
    assert fig.axes[images].get_xlabel() == "says: yes"
    titles = [ax.get_title() for ax in fig.axes[images:][:2]]
    assert titles == ["Standard\nclassifier\ncancels, alike", "ISNet\nselective"]
    own = {key.replace("biased", "my_clinic"): value for key, value in given["standard"].items() if "un" not in key}
    fig = figures.heatmaps_figure({"standard": own}, ["no", "yes"])
    assert [ax.get_ylabel() for ax in fig.axes[:: 1 + images]] == [names.shown("deceiving"), "my_clinic"]
    fig = figures.heatmaps_figure(maps(several=True), ["hat", "glasses"])
    assert [ax.get_xlabel() for ax in fig.axes[:2]] == ["truth: hat", "says: none"]  # the labels that are present


def test_maps_that_cancel_or_are_alike_are_named():
    inside, sign = np.zeros((8, 8)), np.tile([1.0, -1.0], (8, 4))
    inside[2:6] = 1
    alike = np.stack([inside] * 3)
    apart = np.stack([inside * (np.arange(8) // 2 == k) for k in range(3)])
    words = {"cancels, alike": alike * sign, "cancels": apart * sign, "alike": alike, "": apart}
    for word, maps_ in words.items():
        assert figures.faults(maps_, alike > 0) == figures.faults(1e-20 * maps_, alike > 0) == word


def test_the_hero_tells_what_each_method_gets_right():
    right = {"standard": (0.9, 0.1), "isnet_selective": (0.8, 0.7)}
    scores = {(m, t): v for m, both in right.items() for t, v in zip(("biased", "deceiving"), both, strict=True)}
    told = [ax.get_xlabel().split("right: ") for ax in figures.hero_figure(maps(), ["no", "yes"], scores).axes]
    shares = [words[1] for words in told if len(words) == 2]
    assert shares == ["90.0 % of all", "80.0 % of all", "10.0 % of all", "70.0 % of all"]


def test_figures_are_small_and_the_same_twice(tmp_path):
    before = dict(matplotlib.rcParams)
    first, second = (figures.save(figures.forest_figure(comparisons()), tmp_path / "a" / f"{k}.png") for k in range(2))
    assert first.read_bytes() == second.read_bytes() and dict(matplotlib.rcParams) == before
    with Image.open(io.BytesIO(first.read_bytes())) as image:
        assert image.mode == "P" and image.width == round(figures.WIDTH * 160) and not image.info.get("Software")
