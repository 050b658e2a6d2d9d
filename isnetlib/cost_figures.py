"""Figures of what a method costs: a step, training against the number of classes, predictions against the pipeline."""

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from isnetlib import cost_findings, figures
from isnetlib.findings import number
from isnetlib.names import METHOD_NAMES, in_order, method_name


def cost(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Bars: time of a training step in plain steps; a line across the bars with K maps at 1 + K, what counting passes
    gives. frame: rows of cost.csv of one network, size and batch.
    """
    rows = frame.dropna(subset="ratio_to_plain_step").sort_values("ratio_to_plain_step", kind="stable")
    for place, row in enumerate(rows.itertuples()):
        method, ratio = row.variant.split("+")[0], row.ratio_to_plain_step
        face, hatch = (*to_rgb(figures.colour(method)), 0.75), figures.METHOD_HATCHES.get(method, figures.OTHER_LOOK[2])
        ax.barh(place, ratio, color=[face], hatch=hatch, ec="black", lw=0.6)
        floor, told = 1 + row.maps if row.maps > 0 else 0, f" {number(ratio, 2)}"
        ax.text(max(ratio, floor), place, told, va="center")
        if floor:
            ax.plot([floor, floor], [place - 0.45, place + 0.45], "-", color="black", lw=2, zorder=3)
    ax.axvline(1, color="0.4", lw=0.8, ls=":")
    ax.set_yticks(range(len(rows)), [cost_findings.variant_name(row.variant, row.maps) for row in rows.itertuples()])
    first, most = rows.iloc[0], rows["ratio_to_plain_step"].max()
    ax.set(xlabel="time of a training step / plain step", xlim=(0, 1.15 * max(1, most, 1 + rows["maps"].max())))
    if (rows["maps"] > 0).any():
        ax.set_xlabel(f"{ax.get_xlabel()}\nblack lines: 1 + K for K maps, an estimate by counting fp32 passes")
    setting = f"{first['network']}, {first['size']} px, batch {first['batch']}"
    ax.set_title(f"{setting}: up to {number(most, 2)} plain steps")
    return ax


@matplotlib.rc_context(figures.STYLE)
def cost_figure(frame: pd.DataFrame) -> Figure:
    """One panel a network, image size and batch of cost.csv. ValueError where nothing was measured."""
    rows = frame.dropna(subset="ratio_to_plain_step")
    if rows.empty:
        raise ValueError("cost.csv holds no ratio_to_plain_step to draw")
    panels = [panel for _, panel in rows.groupby(["network", "size", "batch"])]
    heights = [0.8 + 0.25 * len(panel) for panel in panels]
    fig = Figure(figsize=(figures.WIDTH, sum(heights)), layout="constrained")
    axes = fig.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
    for panel, ax in zip(panels, axes.flat, strict=True):
        cost(panel, ax)
    return fig


def against_classes(rows: pd.DataFrame, ax: Axes) -> Axes:
    """A line a variant: time of a training step in plain steps by number of classes. rows: classes.csv, one setting."""
    for variant in in_order(rows["variant"], METHOD_NAMES):
        own = rows[rows["variant"] == variant].sort_values("class_count")
        look = {"color": figures.colour(variant), "marker": figures.METHOD_MARKERS.get(variant, "o")}
        ax.plot(own["class_count"], own["ratio_to_plain_step"], "-", lw=1.4, ms=6, label=method_name(variant), **look)
    ax.set(xlabel="classes", ylabel="time of a training step / plain step")
    ax.set_ylim(bottom=0)
    ax.set_title(cost_findings.setting_name(rows))
    ax.legend(frameon=False)
    return ax


@matplotlib.rc_context(figures.STYLE)
def classes_figure(frame: pd.DataFrame) -> Figure:
    """A panel a setting of classes.csv that has three numbers of classes or more. ValueError where none has."""
    panels = [rows for rows in cost_findings.settings(frame) if rows["class_count"].nunique() > 2]
    if not panels:
        raise ValueError("classes.csv holds no setting with three numbers of classes or more")
    fig = Figure(figsize=(figures.WIDTH, 3.1 * len(panels) + 0.5), layout="constrained")
    for rows, ax in zip(panels, fig.subplots(len(panels), 1, squeeze=False).flat, strict=True):
        against_classes(rows, ax)
    _title(fig, cost_findings.classes_title(panels[0]).replace("; ", "\n"))
    return fig


def bars(rows: pd.DataFrame, column: str, scale: float, decimals: int, ax: Axes) -> Axes:
    """One bar a method, of `column` divided by `scale`, its value beside it with so many decimals."""
    order = in_order(rows["variant"], METHOD_NAMES)[::-1]
    values = rows.set_index("variant").loc[order, column] / scale
    for place, (variant, value) in enumerate(values.items()):
        face, hatch = (*to_rgb(figures.colour(variant)), 0.75), figures.METHOD_HATCHES.get(variant, "")
        ax.barh(place, value, color=[face], hatch=hatch, ec="black", lw=0.6)
        ax.text(value, place, f" {number(value, decimals)}", va="center")
    ax.set_yticks(range(len(order)), [method_name(variant) for variant in order])
    ax.set_xlim(0, 1.25 * values.max())
    return ax


@matplotlib.rc_context(figures.STYLE)
def run_time_figure(cost: pd.DataFrame) -> Figure:
    """A row a setting in which the pipeline was measured: time of a prediction, and parameters that it uses.

    ValueError where there is none.
    """
    panels = cost_findings.settings(cost_findings.run_time(cost))
    if not panels:
        raise ValueError("cost.csv holds no prediction of the pipeline to draw")
    heights = [0.75 + 0.25 * len(rows) for rows in panels]
    fig = Figure(figsize=(figures.WIDTH, sum(heights) + 0.6), layout="constrained")
    axes = fig.subplots(len(panels), 2, squeeze=False, height_ratios=heights, sharey="row")
    for rows, (time, size) in zip(panels, axes, strict=True):
        bars(rows, "ratio_to_plain_inference", 1, 2, time).set_xlabel("prediction /\nplain prediction")
        bars(rows, "parameters", 1e6, 1, size).set_xlabel("parameters used,\nmillions")
        time.set_title(cost_findings.setting_name(rows))
    _title(fig, cost_findings.run_time_title(cost))
    return fig


def _title(fig: Figure, text: str) -> None:
    fig.suptitle(text, x=0.01, ha="left", fontsize=9, weight="bold")
