"""Figures of the reports: they draw what tables, logs and maps hold."""

import io
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from isnetlib.report import names

# One colour and marker a method. Colours: the eight of Okabe & Ito (2008), which colour-blind readers tell apart, with
# lighter and darker relatives; related methods share a hue. Variants never stand beside methods whose hues they borrow.
LOOKS = names.TABLE.dropna()[["colour", "marker"]].T.to_dict("list")
STYLE = {"font.size": 8.5, "axes.titlesize": 8.5, "axes.spines.top": False, "axes.spines.right": False}
STYLE |= {"text.parse_math": False, "savefig.dpi": 160}  # names may hold any character
WIDTH = 7.0  # inches: at 700 pixels a page's letters are 12 pixels high
LIMIT = 0.995  # quantile of |share| at which colours saturate: single pixels would make everything else white
SHOWN = ["standard", "pipeline", "gain_ext", "rrr", "background_random", "isnet_selective"]  # where not all have room
SHOWN += [f"isnet_selective_{changed}" for changed in ("decay_0_996", "decay_1", "detached_biases", "every_2")]
COURSES = {"_constant": "P constant", "_falling": "P falling", "": "P steered"}  # by what follows isnet_selective
DASHES = (0, (2, 1))
CANCELS, ALIKE = 0.03, 0.65  # of `faults`, chosen on committed maps: both hold for most ISNets on films, for few others


def look(method: str) -> list[str]:
    """Colour and marker of a method."""
    return LOOKS.get(method, ["#999999", "o"])


def save(fig: Figure, path: Path) -> Path:
    """Write a PNG with a palette (a third of the size) and neither date nor version: the same bytes every time."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        fig.savefig(buffer, format="png", facecolor="white")
    path.parent.mkdir(exist_ok=True)
    image = Image.open(buffer).convert("RGB").quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    image.save(path, optimize=True)
    return path


@matplotlib.rc_context(STYLE)
def panels(parts: dict[str, pd.DataFrame], draw: Callable, height: float, label: str, **axis) -> Figure:
    """Panels side by side, each with its title, by draw(part, ax); height: inches; label: below; axis: settings."""
    fig = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = fig.subplots(1, len(parts), sharex=True, sharey=True, squeeze=False)[0]
    for ax, (title, part) in zip(axes, parts.items(), strict=True):
        draw(part, ax)
        lines = (textwrap.fill(line, 3 + 45 // len(parts), break_long_words=False) for line in title.split("\n"))
        ax.set_title("\n".join(lines), fontsize=8.5 if len(parts) < 6 else 7.5)
    axes[0].set(**axis)
    if len(axes) % 2 or len(label) < 40:
        axes[len(axes) // 2].set_xlabel(label)
    else:  # between the two in the middle
        fig.supxlabel(label, fontsize=8.5)
    return fig


def _legend(fig: Figure, handles: dict) -> Figure:
    """handles: by label."""
    columns = min(4 if max(map(len, handles)) < 24 else 3, len(handles))
    fig.legend(handles.values(), handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=8.5)
    return fig


def _parts(frame: pd.DataFrame, column: str, known: Iterable[str] = LOOKS) -> dict[str, pd.DataFrame]:
    """By title, in order."""
    return {names.shown(name): frame[frame[column] == name] for name in names.in_order(frame[column], known)}


# ---- rows of values with intervals ----


def ladders(parts: dict[str, pd.DataFrame], rows: list[str], label: str, **axis) -> Figure:
    """`panels` of values with their intervals over the same rows, one below the other. A part: row, value, low, high
    (NaN: no interval), method (the look), filled (marker), dashed (interval).
    """

    def ladder(part: pd.DataFrame, ax: Axes) -> None:
        for k in range(0, len(rows), 2):
            ax.axhspan(k - 0.5, k + 0.5, color="#f1f3f5", lw=0)
        ax.axvline(0, color="0.4", lw=0.8)
        for row in part.itertuples():
            place, (colour, marker), line = rows.index(row.row), look(row.method), (0, (1.2, 0.8))
            ax.plot([row.low, row.high], [place] * 2, color=colour, lw=1.6, ls=line if row.dashed else "-")
            ax.plot(row.value, place, marker, mfc=colour if row.filled else "white", mec=colour, ms=5.5, clip_on=False)
        ax.tick_params(left=False)
        ax.spines["left"].set_visible(False)

    axis |= {"ylim": (len(rows) - 0.4, -0.6), "yticks": range(len(rows)), "yticklabels": map(names.shown, rows)}
    return panels(parts, ladder, 0.75 + 0.19 * len(rows), label, **axis)


def forest_figure(frame: pd.DataFrame) -> Figure:
    """Differences to the primary method, a panel a rival. Filled: shown; dashed: over cases alone. frame: rows of
    comparisons.csv in the order of the figure's, whose names are in the column `row`.
    """
    shown = frame.assign(method=frame["b"], value=frame["difference"])
    shown = shown.assign(filled=frame["verdict"] != "no difference shown", dashed=~frame["unit"].str.contains("seeds"))
    label = "ISNet selective minus the other method; right of 0: ISNet selective is better"
    axis = {"xticks": [-0.5, 0, 0.5], "xticklabels": ["-0.5", "0", "0.5"]}
    return ladders(_parts(shown, "b"), list(frame["row"].unique()), label, **axis)


def scores_figure(frame: pd.DataFrame) -> Figure:
    """Scores with intervals over cases and trainings (dashed: over cases alone), a panel a test set, a row a method.
    frame: rows of seeds.csv of one experiment and metric.
    """
    shown = frame.assign(row=frame["method"], value=frame["mean"], filled=frame["method"] != "oracle")
    shown["dashed"] = frame["both_low"].isna()
    shown["low"], shown["high"] = (frame[f"both_{end}"].fillna(frame[f"cases_{end}"]) for end in ("low", "high"))
    axis = {"xlim": (-0.02, 1.02), "xticks": [0, 0.5, 1], "xticklabels": ["0", "0.5", "1"]}
    parts, rows = _parts(shown, "test_set", names.TEST_SET_NAMES), names.in_order(frame["method"], LOOKS)
    return ladders(parts, rows, names.shown(frame["metric"].iloc[0]), **axis)


def cost_figure(frame: pd.DataFrame) -> Figure:
    """Time of a training step and of a prediction in plain ones. frame: cost.csv."""
    frame = frame[~frame["variant"].str.contains("+", regex=False)]
    value = frame["ratio_to_plain_step"].fillna(frame["ratio_to_plain_inference"])
    title = frame["network"] + "\n" + frame["size"].astype(str) + " px\n" + frame["phase"]
    shown = frame.assign(row=frame["variant"], method=frame["variant"], value=value)
    shown = shown.assign(low=np.nan, high=np.nan, filled=True, dashed=False)
    parts = dict(iter(shown.groupby(title.str.replace("inference", "prediction"), sort=False)))
    axis = {"xscale": "log", "xlim": (0.7, 14), "xticks": [1, 3, 10], "xticklabels": ["1", "3", "10"]}
    return ladders(parts, names.in_order(frame["variant"], LOOKS), "times as long as the standard classifier", **axis)


# ---- lines ----


def curves_figure(logs: pd.DataFrame, metric: str) -> Figure:
    """Validation by epoch, a panel a method, a line a seed. logs: the rows of one experiment of `store.logs`."""
    lines = {"val": ("validation, as they are", 0.9, DASHES), "swapped": ("validation, backgrounds swapped", 1.2, "-")}

    def curves(part: pd.DataFrame, ax: Axes) -> None:
        for (method, _), run in part.groupby(["method", "seed"]):
            for kind, (_, width, line) in lines.items():
                ax.plot(run["epoch"], run[f"{kind}_{metric}"], color=look(method)[0], lw=width, ls=line)

    known = logs["method"].isin(SHOWN)
    parts, axis = _parts(logs[known] if known.any() else logs, "method"), {"ylim": (-0.03, 1.03)}
    fig = panels(parts, curves, 2.5, "epoch", **axis, ylabel=names.shown(metric))
    return _legend(fig, {told: Line2D([], [], color="0.3", ls=line) for told, _, line in reversed(lines.values())})


@matplotlib.rc_context(STYLE)
def training_figure(logs: pd.DataFrame, metric: str) -> Figure:
    """The course of a training, one a column: ISNet selective with P constant, falling and steered. logs: as above."""
    rows = {f"{names.shown(metric)} on\nvalidation": {f"val_{metric}": "as it is", f"swapped_{metric}": "swapped"}}
    rows |= {"P": {"P": ""}, "term of the loss": {"classification": "classification", "background": "background"}}
    rows |= {"net share of relevance\ninside the mask": {"net_share": ""}}
    runs = {title: logs[logs["method"] == f"isnet_selective{end}"] for end, title in COURSES.items()}
    runs = {title: run[run["seed"] == run["seed"].min()] for title, run in runs.items() if len(run)}
    fig = Figure(figsize=(WIDTH, 5.6), layout="constrained")
    axes = fig.subplots(len(rows), len(runs), sharex=True, sharey="row", squeeze=False)
    for column, (title, run) in zip(axes.T, runs.items(), strict=True):
        for ax, lines in zip(column, rows.values(), strict=True):
            for (name, label), line in zip(lines.items(), ("-", DASHES), strict=False):
                ax.plot(run["epoch"] + 1, run[name], color="0.2", lw=1.2, ls=line, label=label)
        column[0].set_title(title)
        column[-1].set_xlabel("epoch")
    for ax, (label, lines) in zip(axes[:, 0], rows.items(), strict=True):
        ax.set(ylabel=label, ylim=(0, None))
        if len(lines) > 1:
            ax.legend(frameon=False)
    return fig


def search_figure(trials: pd.DataFrame) -> Figure:
    """`store.trials`: score by place of the value tried, a panel an experiment, a line a method; a ring: chosen."""
    handles = {}

    def search(part: pd.DataFrame, ax: Axes) -> None:
        for name, own in _parts(part, "method").items():
            own, (colour, marker) = own.reset_index(), look(own["method"].iloc[0])
            (handles[name],) = ax.plot(own.index + 1, own["score"], color=colour, marker=marker, ms=4, lw=1.2)
            ax.plot(own.index[own["chosen"]] + 1, own["score"][own["chosen"]], "o", mfc="none", mec="0.2", ms=9)

    parts = {name.replace("_", " "): part for name, part in trials.groupby("experiment", sort=False)}
    ticks = range(1, 1 + trials.groupby(["experiment", "method"]).size().max())
    axis = {"xlim": (0.7, ticks[-1] + 0.3), "xticks": ticks, "ylim": (-0.05, 1.05), "ylabel": "lower validation score"}
    label = "loss weight tried, from the smallest"  # last, where there is one, that falls
    return _legend(panels(parts, search, 3.2, label, **axis), handles)


# ---- images and their relevance ----


def picture(x: np.ndarray, mask: np.ndarray, ax: Axes, limit: float | None = None) -> Axes:
    """An image (H, W), 0 to 255, or, with a limit, a map from -limit to limit; the mask (H, W), bool, as an outline."""
    colours, low, high = ("gray", 0, 255) if limit is None else ("seismic", -limit, limit)
    ax.imshow(x, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    if mask.any() and not mask.all():
        ax.contour(mask.astype(float), levels=[0.5], colors=["#F0E442" if limit is None else "black"], linewidths=0.8)
    return ax


def relevance_row(maps: Sequence[np.ndarray], mask: np.ndarray, axes: Sequence[Axes]) -> None:
    """Maps (H, W) side by side on one scale, in shares of their sums of |R|, which differ by orders of magnitude."""
    shares = [R / max(np.abs(R).sum(), 1e-30) for R in maps]
    limit = max(float(np.quantile(np.abs(shares), LIMIT)), 1e-12)
    for share, ax in zip(shares, axes, strict=True):
        picture(share, mask, ax, limit)


def faults(R: np.ndarray, mask: np.ndarray) -> str:
    """What makes maps R (n, H, W) of different images say little of the class. "cancels": inside the masks (n, H, W)
    red and blue add up to nothing (median of |sum R| / sum |R|); "alike": they point the same way in every image (mean
    |cosine| of two maps); "cancels, alike"; "": neither.
    """
    R, tiny = np.asarray(R, float), 1e-300
    inside = R * (mask > 0)
    whole = np.abs(inside).sum((1, 2))
    net = np.where(whole > 0, np.abs(inside.sum((1, 2))) / np.maximum(whole, tiny), 1.0)
    flat = R.reshape(len(R), -1)
    flat = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), tiny)
    cosines = np.abs(flat @ flat.T)[np.triu_indices(len(R), 1)]
    found = {"cancels": np.median(net) < CANCELS, "alike": len(cosines) > 0 and cosines.mean() > ALIKE}
    return ", ".join(word for word, there in found.items() if there)


@matplotlib.rc_context(STYLE)
def heatmaps_figure(maps: dict[str, dict], classes: Sequence[str], methods: Sequence[str] = SHOWN) -> Figure:
    """The first case of each test set: the image, where it may be shown, then a map a method and what it answers; above
    them the `faults` on the first test set. maps: `store.heatmaps`; classes: names by number.
    """
    methods = [method for method in methods if method in maps] or list(maps)
    one = maps[methods[0]]
    found = names.in_order((key[10:] for key in one if key.startswith("relevance_")), names.TEST_SET_NAMES)
    tests = [name for name in found if name not in ("unbiased", "random")] or found
    shown = int(f"x_{tests[0]}" in one)
    fig = Figure(figsize=(WIDTH, 0.3 + 1.3 * len(tests)), layout="constrained")
    axes = fig.subplots(len(tests), shown + len(methods), squeeze=False)
    for row, name in zip(axes, tests, strict=True):
        mask = one[f"mask_{name}"][0] > 0
        if shown:
            picture(one[f"x_{name}"][0], mask, row[0]).set_xlabel(f"truth: {_label(one[f'y_{name}'][0], classes)}")
        relevance_row([maps[method][f"relevance_{name}"][0].astype(float) for method in methods], mask, row[shown:])
        for ax, method in zip(row[shown:], methods, strict=True):
            p = maps[method][f"p_{name}"][0]
            ax.set_xlabel(f"says: {_label(p >= 0.5 if one[f'y_{name}'].ndim == 2 else p.argmax(), classes)}")
        row[0].set_ylabel(names.shown(name))
    for ax, method in zip(axes[0][shown:], methods, strict=True):
        told = faults(maps[method][f"relevance_{tests[0]}"], one[f"mask_{tests[0]}"])
        ax.set_title(f"{textwrap.fill(names.shown(method), 13)}\n{told}".rstrip())
    return fig


def _label(y: np.ndarray | int, classes: Sequence[str]) -> str:
    """The class, or the present ones of several labels."""
    found = classes[int(y)] if np.ndim(y) == 0 else ", ".join(classes[k] for k in np.flatnonzero(y)) or "none"
    return textwrap.fill(found, 14)


@matplotlib.rc_context(STYLE)
def hero_figure(maps: dict[str, dict], classes: Sequence[str], scores: dict[tuple[str, str], float]) -> Figure:
    """Two methods' maps of the first digit, its mark as in training and misleading. scores: by (method, test set)."""
    methods = ["standard", "isnet_selective"]
    tests = {"biased": "biased: mark\nas in training", "deceiving": "deceiving: mark\nof another digit"}
    fig = heatmaps_figure(maps, classes, methods)
    fig.set_size_inches(4.6, 3.8)
    for row, (test_set, name) in zip(np.reshape(fig.axes, (2, 3)), tests.items(), strict=True):
        row[0].set_ylabel(name)
        for ax, method in zip(row[1:], methods, strict=True):
            ax.set_xlabel(f"{ax.get_xlabel()}\nright: {100 * scores[method, test_set]:.1f} % of all", weight="bold")
    return fig
