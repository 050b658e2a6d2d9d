"""Figures of comparisons, ROC curves and calibration, and the summary over experiments. As in `figures`: what a table
holds is drawn, nothing is computed but the titles, which say the finding.
"""

import textwrap

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from isnetlib import claims, findings, titles
from isnetlib.figures import DASHED, METHOD_MARKERS, OTHER_LOOK, STYLE, TITLE, WIDTH, colour
from isnetlib.names import LOWER_IS_BETTER, PRIMARY_METHOD, UPPER_BOUNDS, method_name, metric_name, name_of_test_set

BOLD = {"x": 0.01, "ha": "left", "fontsize": 10, "weight": "bold"}
ACROSS = 2  # panels side by side


def judged_p(row: pd.Series) -> float:
    """The p a comparison is judged by: Holm's within a family, else the plain one."""
    return row["p"] if findings.exploratory(row) else row["p_holm"]


def p_matrix(frame: pd.DataFrame, ax: Axes) -> Axes:
    """p by other method (down) and test set (across), darker the smaller; + ahead, - behind, * exploratory.

    frame: `findings.main_comparisons`, one row a method and test set.
    """
    methods, sets = findings.methods(frame.assign(method=frame["b"])), findings.test_sets_of(frame)
    cells = np.full((len(methods), len(sets)), np.nan)
    for _, row in frame.iterrows():
        i, j, p = methods.index(row["b"]), sets.index(row["test_set"]), judged_p(row)
        cells[i, j] = np.clip(p, 1e-4, 1)
        sign = {"ahead": "+ ", "behind": "\N{MINUS SIGN} "}.get(findings.verdict(row), "")
        text = sign + ("n/a" if pd.isna(p) else "<0.001" if p < 0.001 else f"{p:.3f}")
        look = {"color": "white" if p < 0.005 else "black", "weight": "bold" if sign else "normal", "fontsize": 8}
        ax.text(j, i, text + ("*" if findings.exploratory(row) else ""), ha="center", va="center", **look)
    ax.imshow(cells, cmap="cividis", norm=LogNorm(1e-4, 1), aspect="auto", alpha=0.9)
    ax.set_xticks(range(len(sets)), [name_of_test_set(name) for name in sets], rotation=20, ha="right")
    ax.set_yticks(range(len(methods)), [method_name(method) for method in methods])
    ax.set_xlabel(
        f"test set.  p, adjusted by Holm's method in the family (* exploratory: not adjusted)\n"
        f"+ {method_name(PRIMARY_METHOD)} is ahead, \N{MINUS SIGN} behind (p < {findings.ALPHA})"
    )
    ax.tick_params(length=0)
    return ax


@matplotlib.rc_context(STYLE)
def p_matrix_figure(comparisons: pd.DataFrame, experiment: str) -> Figure:
    """The matrix of p-values of an experiment's primary metric. ValueError where nothing was compared."""
    rows = findings.main_comparisons(comparisons, experiment)
    if rows.empty:
        raise ValueError(f"{experiment}: no comparison with {method_name(PRIMARY_METHOD)} to draw")
    fig = Figure(figsize=(WIDTH, 1.6 + 0.28 * rows["b"].nunique()), layout="constrained")
    p_matrix(rows, fig.add_subplot())
    fig.suptitle(titles.p_title(comparisons, experiment), **BOLD)
    return fig


def roc(frame: pd.DataFrame, ax: Axes) -> Axes:
    """ROC curves with bands over cases. frame: rows of roc.csv of one experiment and test set."""
    for method in findings.methods(frame):
        own = frame[frame["method"] == method]
        ax.fill_between(own["false_positive_rate"], own["low"], own["high"], color=colour(method), alpha=0.15, lw=0)
        ax.plot(own["false_positive_rate"], own["sensitivity"], **_line(method, 8))
    ax.plot([0, 1], [0, 1], ":", color="0.5", lw=0.8)
    ax.set(xlabel="1 \N{MINUS SIGN} specificity", ylabel="sensitivity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return ax


def reliability(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Share right by confidence, with bootstrap intervals. frame: rows of calibration.csv of one test set."""
    for method in findings.methods(frame):
        own = frame[frame["method"] == method].sort_values("bin")
        ax.plot(own["confidence"], own["accuracy"], **_line(method, 1))
        ax.vlines(own["confidence"], own["low"], own["high"], color=colour(method), lw=0.8, alpha=0.6)
    ax.plot([0, 1], [0, 1], ":", color="0.5", lw=0.8)
    ax.set(xlabel="confidence (winning probability)", ylabel="share right", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return ax


def _line(method: str, every: int) -> dict:
    look = {"color": colour(method), "marker": METHOD_MARKERS.get(method, OTHER_LOOK[1]), "ms": 4, "lw": 1.2}
    return look | {"markevery": every, "label": method_name(method)}


def _panels(frame: pd.DataFrame, draw, title: str) -> Figure:
    """One panel a test set, one legend; of many methods those of the planned comparisons."""
    sets, methods = findings.test_sets_of(frame), findings.main_methods(frame)
    frame = frame[frame["method"].isin(methods)]
    lines = -(-len(sets) // ACROSS)
    size = (WIDTH, 2.5 * lines + 0.5 + 0.2 * -(-len(methods) // ACROSS))
    fig = Figure(figsize=size, layout="constrained")
    axes = list(fig.subplots(lines, ACROSS, squeeze=False, sharex=True, sharey=True).flat)
    for k, (ax, test_set) in enumerate(zip(axes, sets, strict=False)):
        draw(frame[frame["test_set"] == test_set], ax).set_title(name_of_test_set(test_set))
        lowest = k + ACROSS >= len(sets)  # an empty place below has no axis
        ax.tick_params(labelbottom=lowest)
        ax.set(xlabel=ax.get_xlabel() if lowest else "", ylabel="" if k % ACROSS else ax.get_ylabel())
    for ax in axes[len(sets) :]:
        ax.set_axis_off()
    handles = [Line2D([], [], **_line(method, 1)) for method in methods]
    fig.legend(handles=handles, loc="outside lower center", ncols=ACROSS, frameon=False, fontsize=8)
    fig.suptitle(textwrap.fill(title, TITLE), **BOLD)
    return fig


@matplotlib.rc_context(STYLE)
def roc_figure(table: pd.DataFrame, seeds: pd.DataFrame, experiment: str) -> Figure:
    """ROC curves of an experiment, a panel a test set. ValueError where roc.csv has none."""
    own = table[table["experiment"] == experiment]
    if own.empty:
        raise ValueError(f"{experiment}: roc.csv holds no curve (more than two classes)")
    drawn = seeds["method"].isin(findings.main_methods(own))
    scores = seeds[drawn & (seeds["metric"] == "auc")].assign(primary=True)
    return _panels(own, roc, titles.scores_title(scores, experiment))


@matplotlib.rc_context(STYLE)
def reliability_figure(calibration: pd.DataFrame, intervals: pd.DataFrame, experiment: str) -> Figure:
    """Reliability curves of an experiment, a panel a test set. ValueError where calibration.csv has none."""
    own = calibration[calibration["experiment"] == experiment]
    if own.empty:
        raise ValueError(f"{experiment}: calibration.csv holds no curve")
    drawn = intervals[intervals["method"].isin(findings.main_methods(own))]
    return _panels(own, reliability, titles.calibration_title(drawn, experiment))


def summary(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Advantage of the primary method over each other one, a line an experiment and test set, markers side by side.

    frame: rows of comparisons.csv of the main tests, with the kind of images where a column `kind` has it; differences
    of metrics that should be low are turned round.
    """
    parts = [frame[frame["experiment"] == experiment] for experiment in findings.experiments(frame)]
    lines = [own[own["test_set"] == test_set] for own in parts for test_set in findings.test_sets_of(own)]
    labels = []
    for place, rows in enumerate(lines):
        ax.axhspan(place - 0.5, place + 0.5, color="0.96" if place % 2 else "white", zorder=0)
        for offset, (_, row) in zip(np.linspace(-0.35, 0.35, len(rows)), rows.iterrows(), strict=True):
            _advantage(ax, place + (offset if len(rows) > 1 else 0), row)
        first = rows.iloc[0]
        where, kind = f"{first['experiment']}, {name_of_test_set(first['test_set'])}", first.get("kind")
        labels.append(f"{where}\n({f'{kind}; ' if kind else ''}{metric_name(first['metric'])})")
    ax.axvline(0, color="0.4", lw=0.8, zorder=1)
    ax.set_yticks(range(len(lines)), labels)
    ax.set_ylim(len(lines) - 0.5, -0.5)
    ax.set_xlabel(
        f"advantage of {method_name(PRIMARY_METHOD)} over the other method, 95 % interval\n"
        f"right: {method_name(PRIMARY_METHOD)} is better; filled: p < {findings.ALPHA}"
        + f"\n{DASHED}"
        * any(findings.over_cases(row) for _, row in frame.iterrows())
    )
    return ax


def _advantage(ax: Axes, place: float, row: pd.Series) -> None:
    sign, own = -1 if row["metric"] in LOWER_IS_BETTER else 1, colour(row["b"])
    ends, style = [sign * row["low"], sign * row["high"]], (0, (2, 1)) if findings.over_cases(row) else "-"
    ax.plot(ends, [place, place], ls=style, color=own, lw=1.1, zorder=2)
    face = "white" if findings.verdict(row) == findings.NOT_SHOWN else own
    marker = METHOD_MARKERS.get(row["b"], OTHER_LOOK[1])
    ax.plot(sign * row["difference"], place, marker, ms=4.5, mfc=face, mec=own, zorder=3)


@matplotlib.rc_context(STYLE)
def summary_figure(comparisons: pd.DataFrame) -> Figure:
    """The planned comparisons over all experiments; without any, all. ValueError where nothing was compared."""
    rows = [findings.main_comparisons(comparisons, name) for name in findings.experiments(comparisons)]
    rows = pd.concat(rows) if rows else comparisons
    if rows.empty:
        raise ValueError(f"no comparison with {method_name(PRIMARY_METHOD)} to draw")
    planned = rows[~rows.apply(findings.exploratory, axis=1).astype(bool)]
    return _summary(planned if len(planned) else rows, titles.summary_title(rows))


@matplotlib.rc_context(STYLE)
def claim_figure(rows: pd.DataFrame) -> Figure:
    """The comparisons of the papers' claim that were made, over all studies. rows: `claims.claim`. ValueError: none."""
    rows = claims.made(rows)
    if rows.empty:
        raise ValueError("no planned comparison was made: there is nothing to draw")
    several = rows.groupby("experiment")["study"].transform("nunique") > 1
    names = rows["experiment"].mask(several, rows["study"] + ": " + rows["experiment"])
    return _summary(rows.assign(experiment=names), claims.title(rows))


def _summary(rows: pd.DataFrame, title: str) -> Figure:
    """`summary` with a legend of the other methods."""
    lines, methods = rows.groupby(["experiment", "test_set"]).ngroups, findings.methods(rows.assign(method=rows["b"]))
    height = 1.3 + lines * max(0.45, 0.09 * len(methods)) + 0.17 * -(-len(methods) // ACROSS)
    fig = Figure(figsize=(WIDTH, height), layout="constrained")
    summary(rows, fig.add_subplot())
    shown = [method for method in methods if method not in UPPER_BOUNDS]
    handles = [Line2D([], [], **_line(method, 1) | {"lw": 0}) for method in shown]
    fig.legend(handles=handles, loc="outside lower center", ncols=ACROSS, frameon=False, fontsize=8)
    fig.suptitle(textwrap.fill(title, TITLE), **BOLD)
    return fig
