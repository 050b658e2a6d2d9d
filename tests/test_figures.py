"""Figures: what is drawn is what the frame holds, titles follow from it, files are reproducible."""

import fabricated
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from isnetlib import (
    comparison_figures,
    cost_figures,
    figures,
    findings,
    heatmaps,
    names,
    runs,
    search_figure,
    tables,
    titles,
    wording,
)

METHODS = ("standard", "isnet_original", "isnet_selective")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    right = {method: fabricated.RIGHT[method][::3] for method in METHODS}
    results = tmp_path_factory.mktemp("results")
    return fabricated.study(results, right=right, cases=30, classes=["a", "b", "c"], test_sets=("biased", "deceiving"))


@pytest.fixture(scope="module")
def frames(study):
    return tables.write(study)


@pytest.fixture
def ax():
    return Figure().add_subplot()


def primary(frame):
    return findings.primary(frame, "digits")


def cost_frame():
    rows = [("standard", 1.0), ("isnet_selective", 2.4), ("isnet_selective+bf16", 2.1), ("<b>own$x$", np.nan)]
    frame = pd.DataFrame(rows, columns=["variant", "ratio_to_plain_step"])
    return frame.assign(network="resnet18", size=224, batch=8, maps=1, seconds=1.0, peak_mib=900.0)


def test_every_method_has_a_look_of_its_own():
    variants = [*names.ABLATIONS, *names.NETWORKS]
    assert list(figures.METHOD_COLOURS) == [*names.METHOD_NAMES, *variants]
    for looks in (figures.METHOD_COLOURS, figures.METHOD_MARKERS, figures.METHOD_HATCHES, names.METHOD_NAMES):
        assert len({looks[method] for method in names.METHOD_NAMES}) == len(names.METHOD_NAMES)
    for own in (names.ABLATIONS, names.NETWORKS):  # told apart by colour and marker together
        assert len({figures.METHOD_LOOKS[method] for method in own}) == len(own)
    assert not {figures.colour(m) for m in variants} & {figures.colour(m) for m in names.METHOD_NAMES}
    assert set(wording.METHOD_SENTENCES) == set(names.METHOD_NAMES) and set(names.RIVALS) < set(names.METHOD_NAMES)
    assert figures.colour("own") == figures.OTHER_LOOK[0]


def test_scores_draw_means_intervals_and_seeds(frames, ax):
    rows = primary(frames["seeds"]).query("test_set != 'gap'")
    assert figures.scores(rows, ax, points=primary(frames["metrics"])) is ax
    points = [line for line in ax.lines if len(line.get_xdata()) == 1]
    assert sorted(line.get_xdata()[0] for line in points) == pytest.approx(sorted(rows["mean"]))
    ends = sorted(tuple(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) == 2)
    assert ends == sorted(rows[["low", "high"]].dropna().itertuples(index=False, name=None)) and len(ends) > 3
    seeds = [x for line in ax.lines if line.get_marker() == "|" for x in line.get_xdata()]
    assert sorted(seeds) == sorted(primary(frames["metrics"])["value"])
    assert [label.get_text() for label in ax.get_yticklabels()][:3] == [names.METHOD_NAMES[m] for m in METHODS]
    assert "accuracy" in ax.get_xlabel() and "95 %" in ax.get_xlabel()


def test_forest_draws_differences_and_fills_what_is_shown(frames, ax):
    rows = findings.main_comparisons(frames["comparisons"], "digits")
    assert figures.forest(rows, ax) is ax
    points = {line.get_xdata()[0]: line for line in ax.lines if line.get_marker() not in ("None", "")}
    assert sorted(points) == pytest.approx(sorted(rows["difference"]))
    for _, row in rows.iterrows():
        filled = points[row["difference"]].get_markerfacecolor() != "white"
        assert filled == (findings.verdict(row) != findings.NOT_SHOWN)
    assert {filled.get_markerfacecolor() == "white" for filled in points.values()} == {True, False}
    assert "exploratory" in ax.get_xlabel()


def test_titles_follow_from_the_numbers(frames):
    seeds, comparisons = frames["seeds"], frames["comparisons"]
    lowest = seeds.query("method == 'standard' and test_set == 'deceiving' and metric == 'accuracy'")["mean"].iloc[0]
    assert titles.scores_title(seeds, "digits").startswith(
        f"digits, accuracy on deceiving cases: from Standard classifier {lowest:.3f} to ISNet"
    )
    turned = seeds.assign(mean=np.where(seeds["method"] == "standard", 0.999, seeds["mean"]))
    assert "Standard classifier 0.999" in titles.scores_title(turned, "digits")
    worse = comparisons.assign(difference=-0.1, p=0.001, p_holm=0.001)
    assert titles.forest_title(worse, "digits").endswith("ahead in 0, behind in 2 of 2 planned comparisons")
    assert "behind in 2" not in titles.forest_title(comparisons, "digits")
    unplanned = worse.assign(family="")
    assert titles.forest_title(unplanned, "digits").endswith("ahead in 0, behind in 4 of 4 exploratory comparisons")


def test_curves_draw_the_log(study):
    log = runs.read_logs(study)
    fig = figures.curves_figure(log, "digits")
    assert len(fig.axes) == 2 * len(METHODS)
    loss, validation = fig.axes[:2]
    own = log.query("method == 'standard' and seed == 0")
    assert loss.lines[0].get_ydata() == pytest.approx(own["loss"])
    assert [line.get_linestyle() for line in validation.lines] == ["--", "-", "None"] * 3
    rings = [line for line in validation.lines if line.get_marker() == "o"]
    assert [ring.get_xdata().tolist() for ring in rings] == [[5]] * 3
    ends = log.query("method == 'standard' and epoch == 6")[["val_accuracy", "swapped_accuracy"]].mean()
    assert validation.get_title(loc="left") == f"ends at {ends.iloc[0]:.3f}, swapped {ends.iloc[1]:.3f}"
    with pytest.raises(ValueError, match="val_<metric>"):
        figures.logged_metric(log.drop(columns="val_accuracy"))


def test_cost_bars_are_the_ratios(ax):
    cost_figures.cost(cost_frame(), ax)
    assert sorted(bar.get_width() for bar in ax.patches) == [1.0, 2.1, 2.4]
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["Standard classifier", "ISNet selective + bf16", "ISNet selective"]
    assert len({bar.get_hatch() for bar in ax.patches}) == 2
    with pytest.raises(ValueError, match="no ratio_to_plain_step"):
        cost_figures.cost_figure(cost_frame().assign(ratio_to_plain_step=np.nan))


# ---- heatmaps ----


def test_maps_of_a_case_share_one_symmetric_scale(study):
    maps = runs.read_heatmaps(study, "digits")
    fig = heatmaps.heatmap_figure(maps, ["a", "b", "c"], per_test_set=2)
    panels = [ax for ax in fig.axes if ax.images]
    assert len(panels) == 4 * (1 + len(METHODS))
    limits = set()
    for row in range(4):
        picture, *own = panels[row * 4 : row * 4 + 4]
        assert picture.images[0].get_cmap().name == "gray" and picture.images[0].get_clim() == (0, 255)
        scales = {ax.images[0].get_clim() for ax in own}
        assert len(scales) == 1 and (low := min(scales)[0]) == -max(scales)[1] and low < 0
        assert {ax.images[0].get_cmap().name for ax in own} == {"seismic"}
        assert all(ax.collections for ax in (picture, *own))  # the outline of the mask
        limits |= scales
    assert len(limits) > 1
    assert len([ax for ax in fig.axes if "of |R| a pixel" in ax.get_ylabel()]) == 4


def test_maps_are_shares_of_their_total():
    relevance = np.array([[1.0, -3.0], [0.0, 4.0]])
    assert np.abs(heatmaps.shares(relevance * 1e-6)).sum() == pytest.approx(1000)
    assert (np.sign(heatmaps.shares(relevance)) == np.sign(relevance)).all()
    assert heatmaps.outside(relevance, np.array([[True, False], [False, False]])) == pytest.approx(7 / 8)
    assert (heatmaps.shares(np.zeros((2, 2))) == 0).all()
    assert np.isnan(heatmaps.outside(relevance, np.zeros((2, 2), bool)))


def test_many_methods_take_more_lines(study):
    one = next(iter(runs.read_heatmaps(study, "digits").values()))
    fig = heatmaps.heatmap_figure(dict.fromkeys(names.METHOD_NAMES, one), ["a", "b", "c"])
    panels = [ax.get_position() for ax in fig.axes if ax.images]
    assert len({round(place.x0, 6) for place in panels}) <= heatmaps.PER_LINE
    assert not any(a.overlaps(b) for k, a in enumerate(panels) for b in panels[:k])
    assert len([ax for ax in fig.axes if ax.images]) == 2 * (1 + len(names.METHOD_NAMES))


def test_many_words_below_a_map_leave_the_next_heading_free(study):
    one = next(iter(runs.read_heatmaps(study, "digits").values()))
    classes = ["Eyeglasses", "Mouth_Open", "Smiling", "Beard"]
    many = {key: np.ones((len(one[key]), len(classes))) for key in one if key.startswith(("y_", "p_"))}
    fig = heatmaps.heatmap_figure(dict.fromkeys(names.METHOD_NAMES, one | many), classes)
    fig.draw_without_rendering()
    panels = [ax for ax in fig.axes if ax.images]
    words = [ax.xaxis.label.get_window_extent() for ax in panels if ax.get_xlabel()]
    assert not any(ax.title.get_window_extent().overlaps(box) for ax in panels for box in words)


def test_a_case_that_shows_what_the_biased_one_shows_comes_later(study):
    one = next(iter(runs.read_heatmaps(study, "digits").values()))
    one = one | {"x_deceiving": one["x_deceiving"].copy()}
    one["x_deceiving"][0] = one["x_biased"][0]
    one["x_deceiving"][1] = one["x_biased"][1] + 1
    assert heatmaps.first_cases({"standard": one}, 1) == [("biased", 0), ("deceiving", 1)]
    hidden = {key: value for key, value in one.items() if not key.startswith("x_")}
    assert heatmaps.first_cases({"standard": hidden}, 1) == [("biased", 0), ("deceiving", 0)]


def test_images_that_may_not_be_shown_are_left_out(study):
    maps = runs.read_heatmaps(study, "digits")
    maps = {m: {k: v for k, v in arrays.items() if not k.startswith("x_")} for m, arrays in maps.items()}
    fig = heatmaps.heatmap_figure(maps, ["a", "b", "c"])
    assert {ax.images[0].get_cmap().name for ax in fig.axes if ax.images} == {"seismic"}


def test_heatmaps_of_other_cases_or_not_finite_are_refused(study):
    maps = runs.read_heatmaps(study, "digits")
    other = maps | {"standard": maps["standard"] | {"y_biased": maps["standard"]["y_biased"] + 1}}
    with pytest.raises(ValueError, match="show other cases"):
        heatmaps.heatmap_figure(other, ["a", "b", "c", "d"])
    broken = maps["standard"] | {"relevance_biased": maps["standard"]["relevance_biased"] * np.inf}
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match="NaN or infinity"):
        heatmaps.heatmap_figure(maps | {"standard": broken}, ["a", "b", "c"])


def test_several_labels_are_told():
    assert heatmaps._says(np.array([0.9, 0.2, 0.6]), ["x", "y", "z"], several=True) == "says x, z"
    assert heatmaps._says(np.array([0.2]), ["no", "yes"], several=False) == "says no (0.80)"


def test_a_panel_above_an_empty_place_has_its_axis():
    rows = pd.DataFrame({"bin": [5, 9], "confidence": [0.55, 0.95], "accuracy": [0.5, 0.9], "low": 0.4, "high": 1.0})
    rows = pd.concat([rows.assign(test_set=name) for name in ("biased", "unbiased", "deceiving")])
    rows = rows.assign(experiment="digits", method="standard", measure="calibration_error", value=0.1)
    fig = comparison_figures.reliability_figure(rows, rows, "digits")
    shown = [ax for ax in fig.axes if ax.axison]
    assert len(shown) == 3 and [bool(ax.get_xlabel()) for ax in shown] == [False, True, True]
    assert [ax.xaxis.get_tick_params()["labelbottom"] for ax in shown] == [False, True, True]
    assert fig.get_suptitle() == "digits, calibration error, mean over test sets: Standard\nclassifier 0.100"


def test_values_tried_are_written_as_numbers():
    frame = pd.DataFrame({"value": [0.1, 1.0, 10.0, 100.0], "internal": 0.9, "swapped": [0.5, 0.6, 0.7, 0.8]})
    frame = frame.assign(
        experiment="digits", method="rrr", option="penalty_weight", metric="auc", chosen=frame.value == 1
    )
    fig = search_figure.figure(frame)
    assert [label.get_text() for label in fig.axes[0].get_xticklabels()] == ["0.1", "1", "10", "100"]
    assert fig.get_suptitle() == "digits: for 0 of 1 methods an end of the range was best"


def test_one_seed_a_method_has_its_interval_over_cases(frames):
    single = frames["seeds"].assign(n=1, low=np.nan, high=np.nan)
    (ax,) = figures.scores_figure(single, frames["metrics"], "digits").axes
    assert "one seed, 95 % interval over cases" in ax.get_xlabel() and "ticks" not in ax.get_xlabel()
    spans = [line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2]
    rows = findings.primary(single, "digits").query("test_set != 'gap' and cases_low.notna()")
    assert sorted(low for low, _ in spans) == pytest.approx(sorted(rows["cases_low"]))


def test_one_seed_beside_several_is_dashed_over_cases(frames):
    at = frames["seeds"]["method"] == "standard"
    mixed = frames["seeds"].assign(n=np.where(at, 1, 3), low=frames["seeds"]["low"].mask(at))
    (ax,) = figures.scores_figure(mixed, frames["metrics"], "digits").axes
    assert "dashed: one seed, interval over cases" in ax.get_xlabel()
    dashed = [line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "--"]
    rows = findings.primary(mixed, "digits").query("method == 'standard' and test_set != 'gap'")
    assert sorted(line.get_xdata()[0] for line in dashed) == pytest.approx(sorted(rows["cases_low"]))
    comparisons = frames["comparisons"].assign(test=findings.OVER_CASES)
    (ax,) = figures.forest_figure(comparisons, "digits").axes
    assert figures.DASHED in ax.get_xlabel()


# ---- files ----


def test_saved_files_are_the_same_bytes(frames, study, tmp_path):
    def everything(folder):
        folder.mkdir()
        drawn = {
            "scores": figures.scores_figure(frames["seeds"], frames["metrics"], "digits"),
            "maps": heatmaps.heatmap_figure(runs.read_heatmaps(study, "digits"), ["<a>", "$b$", "c_1$"]),
        }
        paths = [path for stem, figure in drawn.items() for path in figures.save(figure, folder / stem)]
        return {path.name: path.read_bytes() for path in paths}

    first = everything(tmp_path / "one")
    assert first == everything(tmp_path / "two") and len(first) == 4
    for name, data in first.items():
        assert data[:4] == (b"%PDF" if name.endswith("pdf") else b"\x89PNG")
        assert b"CreationDate" not in data and b"Matplotlib" not in data
