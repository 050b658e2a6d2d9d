"""The figure of a study's search: what each value of a loss weight reached on validation."""

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from isnetlib import figures, findings, titles
from isnetlib.names import method_name, metric_name


def panel(frame: pd.DataFrame, ax: Axes) -> Axes:
    """Validation by value of the option: swapped backgrounds solid, internal dashed, a ring at the value chosen.

    frame: rows of search.csv of one experiment and method.
    """
    rows, own = frame.sort_values("value"), figures.colour(frame["method"].iloc[0])
    ax.plot(rows["value"], rows["internal"], ".--", color=own, lw=1.1)
    ax.plot(rows["value"], rows["swapped"], ".-", color=own, lw=1.1)
    chosen = rows[rows["chosen"]]
    ax.plot(chosen["value"], chosen["swapped"], "o", ms=7, mfc="none", mec="black")
    ax.set_xscale("log" if rows["value"].max() >= 10 * rows["value"].min() > 0 else "linear")
    ax.set_xticks(rows["value"], [f"{value:g}" for value in rows["value"]])
    ax.minorticks_off()
    ax.set(xlabel=frame["option"].iloc[0], ylim=(-0.03, 1.03), title=method_name(frame["method"].iloc[0]))
    return ax


@matplotlib.rc_context(figures.STYLE)
def figure(frame: pd.DataFrame) -> Figure:
    """A panel a method. frame: rows of search.csv of one experiment."""
    methods = findings.methods(frame)
    lines = -(-len(methods) // 2)
    fig = Figure(figsize=(figures.WIDTH, 1.75 * lines + 0.3), layout="constrained")
    axes = fig.subplots(lines, 2, squeeze=False)
    for ax, method in zip(axes.flat, methods, strict=False):
        panel(frame[frame["method"] == method], ax)
    for ax in axes.flat[len(methods) :]:
        ax.set_axis_off()
    fig.supylabel(f"validation {metric_name(frame['metric'].iloc[0])}: swapped backgrounds solid, internal dashed")
    fig.suptitle(titles.search_title(frame), x=0.01, ha="left", fontsize=10, weight="bold")
    return fig
