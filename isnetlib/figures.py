"""Figures: fn(frame, ax) -> ax draws what a table holds and computes no statistic; titles come from `findings`. One
colour and one marker a method.

Functions that end in `_figure` put axes together to a `matplotlib.figure.Figure`; `save` writes it as PDF and PNG,
the same bytes every time.
"""

import textwrap
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from isnetlib import findings, titles
from isnetlib.names import (
    ABLATIONS,
    BOUNDS,
    LOWER_IS_BETTER,
    METHOD_NAMES,
    NETWORKS,
    PRIMARY_METHOD,
    in_order,
    method_name,
    metric_name,
    name_of_test_set,
)

# Colour, marker and hatch. Colours: the eight of Okabe & Ito (2008), which colour-blind readers tell apart, with
# lighter and darker relatives; related methods share a hue, no two share a marker.
METHOD_LOOKS = {
    "standard": ("#D55E00", "X", ""),
    "pipeline": ("#009E73", "s", "//"),
    "multitask": ("#E69F00", "D", "\\\\"),
    "attention_gate": ("#CC79A7", "^", "||"),
    "gain": ("#B8A500", "v", "--"),
    "gain_ext": ("#6B6000", "<", "++"),
    "rrr": ("#882255", ">", "xx"),
    "grad_input": ("#332288", "p", "oo"),
    "background_random": ("#66C9AE", "h", ".."),
    "vit": ("#8C4A1F", "*", "**"),
    "isnet_original": ("#56B4E9", "o", "///"),
    "isnet_selective": ("#0072B2", "P", "|||"),
    "isnet_stochastic": ("#004B76", "d", "---"),
    "oracle": ("#555555", "8", "xxx"),
}
OTHER_LOOK = ("#999999", "o", "")  # a method that is not in the list
# Variants of a method (`names.ABLATIONS`, `names.NETWORKS`) never stand beside the methods whose hues they borrow.
VARIANT_COLOURS, VARIANT_MARKERS = ("#C2661F", "#3B9A76", "#B98A1E", "#A0528A", "#5C1A3B", "#7FB7D6"), "sD^v<>ph*Xd"
METHOD_LOOKS |= {
    method: (VARIANT_COLOURS[k % len(VARIANT_COLOURS)], VARIANT_MARKERS[k % len(VARIANT_MARKERS)], "")
    for variants in (ABLATIONS, NETWORKS)
    for k, method in enumerate(variants)
}
METHOD_COLOURS, METHOD_MARKERS, METHOD_HATCHES = (
    {method: look[k] for method, look in METHOD_LOOKS.items()} for k in range(3)
)
STYLE = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
    "text.parse_math": False,  # names may hold any character
    "hatch.linewidth": 0.6,
    "svg.hashsalt": "isnetlib",
}
DASHED = "dashed: over cases alone"
WIDTH = 5.2  # inches: about 370 points, so that text of 9 points can be read on a phone
TITLE = 62  # letters of a bold title in a line of that width
FIXED = {"pdf": {"CreationDate": None, "Creator": None, "Producer": None}, "png": {"Software": None}}


def colour(method: str) -> str:
    return METHOD_COLOURS.get(method, OTHER_LOOK[0])


def save(fig: Figure, stem: str | Path) -> list[Path]:
    """Write `stem`.pdf and `stem`.png without dates or versions, and return their paths."""
    paths = [Path(f"{stem}.{kind}") for kind in FIXED]
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        layout = fig.get_layout_engine()
        if layout is not None:  # once for both formats, as the box below: half of the time
            layout.execute(fig)
            fig.set_layout_engine("none")
        box = fig.get_tightbbox().padded(matplotlib.rcParams["savefig.pad_inches"])
        for path, fixed in zip(paths, FIXED.values(), strict=True):
            fig.savefig(path, metadata=fixed, bbox_inches=box, facecolor="white")
        if layout is not None:
            fig.set_layout_engine(layout)
    return paths


# ---- results by method and test set ----


def scores(frame: pd.DataFrame, ax: Axes, points: pd.DataFrame | None = None) -> Axes:
    """One line a method under each test set: mean over seeds with its interval; where there is none over seeds (folds,
    or one seed), the value with its interval over cases, dashed where others have one over seeds.

    frame: rows of seeds.csv of one experiment and metric; points: rows of metrics.csv, drawn as one tick a seed.
    """
    rows, places = _ladder(frame, "method")
    folds, single = (frame["unit"] == "folds").all(), (frame["n"] == 1).all()
    for place, row in zip(places, rows, strict=True):
        alone = folds or row["n"] == 1
        low, high = (row["cases_low"], row["cases_high"]) if alone else (row["low"], row["high"])
        if points is not None and not single:
            own = points[(points["method"] == row["method"]) & (points["test_set"] == row["test_set"])]["value"]
            ax.plot(own, [place + 0.36] * len(own), "|", ms=4, mec="0.25", mew=0.9, zorder=2)
        _estimate(ax, place, row["mean"], low, high, row["method"], dashed=alone and not (folds or single))
    _label_ladder(ax, places, [method_name(row["method"]) for row in rows], findings.test_sets_of(frame))
    metric, smallest = frame["metric"].iloc[0], frame[["mean", "low", "cases_low"]].min(axis=None)
    if metric in BOUNDS and pd.notna(smallest):  # from 0 where a method is that low, from a round number otherwise
        ax.set_xlim(-0.02 if smallest < 0.4 else np.floor(10 * smallest - 0.2) / 10, BOUNDS[metric][1] + 0.02)
    ax.set_xlabel(f"{metric_name(metric)}: {_what_is_shown(frame, folds, single)}")
    return ax


def _what_is_shown(frame: pd.DataFrame, folds: bool, single: bool) -> str:
    """What the markers, bars and ticks of `scores` are."""
    if single:
        return f"one {'fold' if folds else 'seed'}, 95 % interval over cases"
    if folds:
        return "all folds joined, 95 % interval over cases\nticks: single folds"
    alone = "dashed: one seed, interval over cases; " if (frame["n"] == 1).any() else ""
    return f"mean and 95 % interval over seeds\n{alone}ticks: single seeds"


def forest(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Differences a - b with 95 % intervals, one line a method b under each test set; filled where p is below 0.05.

    frame: rows of comparisons.csv of one experiment, metric and test; p is the adjusted one within a family.
    """
    rows, places = _ladder(frame, "b")
    ax.axvline(0, color="0.4", lw=0.8, zorder=1)
    labels = [method_name(row["b"]) + (" *" if findings.exploratory(row) else "") for row in rows]
    for place, row in zip(places, rows, strict=True):
        look = {"filled": findings.verdict(row) != findings.NOT_SHOWN, "dashed": findings.over_cases(row)}
        _estimate(ax, place, row["difference"], row["low"], row["high"], row["b"], **look)
    _label_ladder(ax, places, labels, findings.test_sets_of(frame))
    a, metric = method_name(frame["a"].iloc[0]), frame["metric"].iloc[0]
    side = "left" if metric in LOWER_IS_BETTER else "right"
    notes = ["* exploratory"] * any(label.endswith(" *") for label in labels)
    notes += [DASHED] * any(findings.over_cases(row) for row in rows)
    ax.set_xlabel(
        f"difference of {metric_name(metric)}, {a} minus other (95 % interval)\n"
        f"{side}: {a} is better; filled: p < {findings.ALPHA}" + ("\n" + "; ".join(notes) if notes else "")
    )
    return ax


def _ladder(frame: pd.DataFrame, column: str) -> tuple[list[pd.Series], list[float]]:
    """Rows by test set and method, and their places from the top down, with room for a heading above each test set."""
    rows, places, place = [], [], 0.0
    for test_set in findings.test_sets_of(frame):
        own = frame[frame["test_set"] == test_set]
        place += 1.3
        for method in in_order(own[column], METHOD_NAMES):
            rows.append(own[own[column] == method].iloc[0])
            places.append(place)
            place += 1
    return rows, places


def _label_ladder(ax: Axes, places: list[float], labels: list[str], test_sets: list[str]) -> None:
    ax.set_yticks(places, labels)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(max(places) + 0.7, -0.2)
    ax.grid(axis="x", color="0.9", lw=0.6)
    starts = [0.0, *(a + 1 for a, b in pairwise(places) if b - a > 1.5)]
    bold = {"weight": "bold", "ha": "right", "va": "center", "fontsize": 9, "transform": ax.get_yaxis_transform()}
    for start, test_set in zip(starts, test_sets, strict=True):
        ax.text(-0.015, start + 0.5, name_of_test_set(test_set), **bold)


def _estimate(
    ax: Axes,
    place: float,
    value: float,
    low: float,
    high: float,
    method: str,
    filled: bool = True,
    dashed: bool = False,
) -> None:
    own, marker = colour(method), METHOD_MARKERS.get(method, OTHER_LOOK[1])
    if not np.isnan(low):
        width = {"ls": (0, (2, 1)), "lw": 1.1} if dashed else {"ls": "-", "lw": 1.6}
        ax.plot([low, high], [place, place], color=own, solid_capstyle="butt", zorder=3, **width)
    ax.plot(value, place, marker, ms=6.5, mfc=own if filled else "white", mec=own, mew=1.2, zorder=4)


def _ladder_figure(frame: pd.DataFrame, draw: Callable[..., Axes], title: str, **options) -> Figure:
    fig = Figure(figsize=(WIDTH, 0.9 + 0.19 * len(frame) + 0.26 * frame["test_set"].nunique()), layout="constrained")
    draw(frame, fig.add_subplot(), **options)
    fig.suptitle(textwrap.fill(title, TITLE), x=0.01, ha="left", fontsize=10, weight="bold")
    return fig


@matplotlib.rc_context(STYLE)
def scores_figure(seeds: pd.DataFrame, metrics: pd.DataFrame, experiment: str) -> Figure:
    """The primary metric of an experiment by test set and method; the gap, of another range, is left to the table."""
    rows, points = (findings.primary(frame, experiment) for frame in (seeds, metrics))
    title = titles.scores_title(seeds, experiment)
    return _ladder_figure(rows[rows["test_set"] != "gap"], scores, title, points=points)


@matplotlib.rc_context(STYLE)
def forest_figure(comparisons: pd.DataFrame, experiment: str) -> Figure:
    """Differences of the primary method to every other one, by test set. ValueError where there is none."""
    rows = findings.main_comparisons(comparisons, experiment)
    if rows.empty:
        raise ValueError(f"{experiment}: no comparison with {method_name(PRIMARY_METHOD)} to draw")
    return _ladder_figure(rows, forest, titles.forest_title(comparisons, experiment))


# ---- training ----


def loss_curves(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Training loss by epoch, one line a seed. frame: log rows of one method."""
    method = frame["method"].iloc[0]
    for _, one in frame.groupby("seed"):
        ax.plot(one["epoch"], one["loss"], "-", color=colour(method), lw=1.1)
    ax.set(xlabel="epoch", ylabel="training loss", title=method_name(method))
    return ax


def validation_curves(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Validation by epoch, one line a seed: internal dashed, swapped backgrounds solid, a ring at the epoch chosen.

    frame: log rows of one method.
    """
    method, metric = frame["method"].iloc[0], logged_metric(frame)
    for _, one in frame.groupby("seed"):
        ax.plot(one["epoch"], one[f"val_{metric}"], "--", color=colour(method), lw=1.1)
        ax.plot(one["epoch"], one[f"swapped_{metric}"], "-", color=colour(method), lw=1.1)
        chosen = one[one["epoch"] == one["chosen_swapped"]]
        ax.plot(chosen["epoch"], chosen[f"swapped_{metric}"], "o", ms=6, mfc="none", mec="black")
    ax.set(xlabel="epoch", ylabel=f"validation {metric_name(metric)}", ylim=(-0.03, 1.03))
    ax.set_title(titles.curve_title(frame, metric))
    return ax


def logged_metric(log: pd.DataFrame) -> str:
    """The metric of the log's columns val_<metric> and swapped_<metric>. ValueError where there is none."""
    for column in log:
        kind, _, metric = column.partition("_")
        if kind == "val" and metric != "loss" and f"swapped_{metric}" in log and log[column].notna().any():
            return metric
    raise ValueError(f"the log needs the columns val_<metric> and swapped_<metric>, found {list(log)}")


@matplotlib.rc_context(STYLE)
def curves_figure(log: pd.DataFrame, experiment: str) -> Figure:
    """Loss and validation, a row a method: losses of different methods have different terms. log: `runs.read_logs`."""
    own = log[log["experiment"] == experiment]
    methods = findings.methods(own)
    height = 1.75 * len(methods) + 0.3
    fig = Figure(figsize=(WIDTH, height))  # of so many axes a layout engine would take most of the time
    axes = fig.subplots(len(methods), 2, sharex=True, squeeze=False)
    fig.subplots_adjust(left=0.11, right=0.99, wspace=0.3, hspace=0.28, top=1 - 0.2 / height, bottom=0.75 / height)
    for method, pair in zip(methods, axes, strict=True):
        for draw, ax in zip((loss_curves, validation_curves), pair, strict=True):
            draw(own[own["method"] == method], ax)
            ax.title.set_fontsize(8)
            ax.set_xlabel("epoch" if method == methods[-1] else "")
    looks = {"internal": {"ls": "--"}, "swapped backgrounds": {"ls": "-"}, "epoch chosen": {"marker": "o", "ls": ""}}
    lines = [Line2D([], [], color="black", lw=1.1, mfc="none", label=label, **look) for label, look in looks.items()]
    fig.legend(handles=lines, loc="lower center", ncols=3, frameon=False)
    return fig
