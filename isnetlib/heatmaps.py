"""Relevance maps side by side: the image in grey, then one map a method, on one symmetric scale a case. A method with
an attention map of its own (gates, Grad-CAM, a predicted mask) has it beside, in grey from 0 to 1.

Raw relevance of different networks differs in size by orders of magnitude, so each map is shown as shares of its own
total absolute relevance: what is compared is where it lies, as in background_share (there before channels are summed).
"""

import textwrap

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from isnetlib.figures import STYLE
from isnetlib.findings import number
from isnetlib.names import METHOD_NAMES, TEST_SET_NAMES, UPPER_BOUNDS, in_order, method_name, name_of_test_set

SEGMENTING = ("pipeline", "multitask")  # what is shown beside their maps is the mask that they predict
SAID = 20  # letters below a panel
PER_LINE = 7  # panels side by side: as many as a page can show
# Inches: a map, its place across, its heading, its line with heading and three lines of words, a further line of words;
# the margins; a colour bar.
PANEL, CELL, HEAD, LINE, MORE, LEFT, RIGHT, TOP, BAR = 1.18, 1.32, 0.45, 2.12, 0.18, 0.55, 0.85, 0.35, 2.6
LIMIT = 0.995  # quantile of |share| in a row at which colours saturate: single pixels would make everything else white


def shares(relevance: np.ndarray) -> np.ndarray:
    """Signed shares of the total absolute relevance in per mille of it: (H, W) -> (H, W); zeros stay zeros."""
    relevance = np.asarray(relevance, np.float64)
    total = np.abs(relevance).sum()
    return 1000 * relevance / total if total > 0 else relevance


def outside(relevance: np.ndarray, mask: np.ndarray) -> float:
    """Share of the absolute relevance outside the mask (H, W); NaN without a mask or relevance."""
    total = np.abs(np.asarray(relevance, np.float64)).sum()
    return float(np.abs(np.asarray(relevance, np.float64))[~mask].sum() / total) if total > 0 and mask.any() else np.nan


def heatmap(relevance: np.ndarray, mask: np.ndarray, ax: Axes, limit: float) -> AxesImage:
    """One map (H, W), blue to red from -limit to limit, with the outline of the mask."""
    image = ax.imshow(relevance, cmap="seismic", vmin=-limit, vmax=limit, interpolation="nearest")
    _outline(mask, ax)
    return image


def picture(x: np.ndarray, mask: np.ndarray, ax: Axes) -> Axes:
    """One image (H, W), 0 to 255, in grey with the outline of the mask."""
    ax.imshow(x, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    _outline(mask, ax, "#F0E442")
    return ax


def _outline(mask: np.ndarray, ax: Axes, color: str = "black") -> None:
    if mask.any() and not mask.all():
        ax.contour(mask.astype(float), levels=[0.5], colors=[color], linewidths=0.8)


def first_cases(maps: dict[str, dict[str, np.ndarray]], per_test_set: int) -> list[tuple[str, int]]:
    """(test set, position) of the first cases of each test set, those whose image is that of the biased set (the random
    mark is the same) after the others. ValueError where methods show others, or NaN.
    """
    first = next(iter(maps.values()))
    sets = in_order((key.removeprefix("relevance_") for key in first if key.startswith("relevance_")), TEST_SET_NAMES)
    for name in sets:
        for method, arrays in maps.items():
            if f"y_{name}" not in arrays or not np.array_equal(arrays[f"y_{name}"], first[f"y_{name}"]):
                raise ValueError(f"heatmaps of {method} on {name} show other cases than those of {next(iter(maps))}")
            if not np.isfinite(arrays[f"relevance_{name}"]).all():
                raise ValueError(f"heatmaps of {method} on {name} hold NaN or infinity; scale them before float16")
    order = {name: sorted(range(len(first[f"y_{name}"])), key=lambda k: _as_biased(first, name, k)) for name in sets}
    return [(name, k) for name in sets for k in order[name][:per_test_set]]


def _as_biased(arrays: dict[str, np.ndarray], test_set: str, k: int) -> bool:
    """Whether a case of another test set shows the very image of the biased one, as far as images are kept."""
    own, biased = arrays.get(f"x_{test_set}"), arrays.get("x_biased")
    if test_set == "biased" or own is None or biased is None or k >= len(biased):
        return False
    return np.array_equal(own[k], biased[k])


@matplotlib.rc_context(STYLE)
def heatmap_figure(maps: dict[str, dict[str, np.ndarray]], classes: list[str], per_test_set: int = 1) -> Figure:
    """A row a case: the image (left out where it may not be shown), then a map a method; many methods take more lines.

    maps: `runs.read_heatmaps`; classes: names, by number; per_test_set: how many cases of each test set.
    """
    maps = {method: maps[method] for method in in_order(maps, METHOD_NAMES)}
    rows, shown = first_cases(maps, per_test_set), any(key.startswith("x_") for key in next(iter(maps.values())))
    heads = (["image"] if shown else []) + [textwrap.fill(head, 14) for head in _heads(maps)]
    lines = -(-len(heads) // PER_LINE)
    columns = -(-len(heads) // lines)
    words = [_said(arrays, *row, classes).count("\n") + 2 for arrays in maps.values() for row in rows]
    line = LINE + MORE * max(0, max(words) - 3)
    width, height = LEFT + columns * CELL + RIGHT, TOP + line * lines * len(rows)
    fig = Figure(figsize=(width, height))  # of so many panels a layout engine would take most of the time
    for k, (test_set, case) in enumerate(rows):
        block = [_panel(fig, TOP + line * (k * lines + n // columns), n % columns) for n in range(len(heads))]
        _case(fig, block, maps, test_set, case, classes, shown)
        for ax, head in zip(block, heads, strict=True):
            ax.set_title(head, loc="center", fontsize=8.5, weight="bold")
    title = textwrap.fill(heatmap_title(maps, rows), int(11 * width))
    fig.suptitle(title, x=0.1 / width, y=1 - 0.05 / height, ha="left", va="top", fontsize=10, weight="bold")
    return fig


def _panel(fig: Figure, top: float, column: int) -> Axes:
    """Axes for one image or map, without ticks or frame; its line begins `top` inches below the figure's edge."""
    (width, height), left = fig.get_size_inches(), LEFT + CELL * column + (CELL - PANEL) / 2
    bottom = height - top - HEAD - PANEL
    ax = fig.add_axes((left / width, bottom / height, PANEL / width, PANEL / height), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return ax


def _heads(maps: dict[str, dict[str, np.ndarray]]) -> list[str]:
    """Titles of the maps' panels: each method, and after it its attention, or predicted mask, where it has one."""
    heads = []
    for method, arrays in maps.items():
        beside = "its mask" if method in SEGMENTING else "its attention"
        heads += [method_name(method)] + ([beside] if _attends(arrays) else [])
    return heads


def _attends(arrays: dict[str, np.ndarray]) -> bool:
    return any(key.startswith("attention_") for key in arrays)


def heatmap_title(maps: dict[str, dict[str, np.ndarray]], rows: list[tuple[str, int]]) -> str:
    """Which methods look outside the mask most and least in the cases shown."""
    means = {}
    for method, arrays in ((m, a) for m, a in maps.items() if m not in UPPER_BOUNDS):
        found = [outside(arrays[f"relevance_{name}"][k], np.squeeze(arrays[f"mask_{name}"][k]) > 0) for name, k in rows]
        means[method] = np.mean([share for share in found if not np.isnan(share)] or [np.nan])
    known = sorted((method for method in means if not np.isnan(means[method])), key=means.get)
    if not known:
        return "Relevance; the masks are not known"
    least, most = (f"{method_name(method)} {number(means[method])}" for method in (known[0], known[-1]))
    where = "In the case shown" if len(rows) == 1 else f"In the {len(rows)} cases shown"
    return f"{where}, most relevance outside the mask: {most}" + (f"; least: {least}" if len(known) > 1 else "")


def _case(fig: Figure, block: list[Axes], maps: dict, test_set: str, k: int, classes: list[str], shown: bool) -> None:
    """Image and maps of one case, with what each network says and how much of the map lies outside the mask."""
    one = next(iter(maps.values()))
    y = one[f"y_{test_set}"][k]
    mask = np.squeeze(one[f"mask_{test_set}"][k]) > 0
    relevance = [shares(arrays[f"relevance_{test_set}"][k]) for arrays in maps.values()]
    limit = max(float(np.quantile(np.abs(relevance), LIMIT)), 1e-12)
    if shown and f"x_{test_set}" in one:
        picture(one[f"x_{test_set}"][k], mask, block[0])
    free = iter(block[int(shown) :])
    for share, arrays in zip(relevance, maps.values(), strict=True):
        ax = next(free)
        image = heatmap(share, mask, ax, limit)
        said = f"{_said(arrays, test_set, k, classes)}\n{number(outside(share, mask))} outside"
        ax.set_xlabel(said, fontsize=8)
        if _attends(arrays):
            picture(arrays[f"attention_{test_set}"][k], mask, next(free))
    beside = f"{name_of_test_set(test_set)}\n{textwrap.fill(f'label {_label(y, classes)}', SAID)}"
    block[0].set_ylabel(beside, fontsize=8.5, labelpad=15)  # what is said below a panel is wider than the panel
    last, low = block[0].get_position(), block[-1].get_position().y0
    width, height = fig.get_size_inches()
    tall = min(last.y1 - low, BAR / height)
    bar = fig.add_axes((1 - (RIGHT - 0.1) / width, (last.y1 + low - tall) / 2, 0.14 / width, tall))
    fig.colorbar(image, cax=bar, extend="both").set_label("‰ of |R| a pixel", fontsize=8)
    bar.tick_params(labelsize=7.5)


def _said(arrays: dict[str, np.ndarray], test_set: str, k: int, classes: list[str]) -> str:
    """What a network says of a case, in lines below its map."""
    several = np.ndim(arrays[f"y_{test_set}"][k]) > 0
    return textwrap.fill(_says(arrays[f"p_{test_set}"][k], classes, several), SAID)


def _says(p: np.ndarray, classes: list[str], several: bool) -> str:
    """The class with the highest score and that score; of several labels those with at least 0.5."""
    p = np.atleast_1d(p)
    if several:
        return f"says {_label(p >= 0.5, classes)}"
    if len(p) == 1 and len(classes) == 2:
        p = np.array([1 - p[0], p[0]])
    return f"says {classes[int(p.argmax())]} ({float(p.max()):.2f})"


def _label(y, classes: list[str]) -> str:
    """The class, or the present ones of several labels."""
    return classes[int(y)] if np.ndim(y) == 0 else ", ".join(classes[k] for k in np.flatnonzero(y)) or "none"
