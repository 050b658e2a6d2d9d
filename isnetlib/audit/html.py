"""The page of an audit, and its figure."""

import io

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from isnetlib import heatmaps, names, pages
from isnetlib.data.images import Images


def figure(sets: dict[str, Images], R: dict[str, Tensor]) -> bytes:
    """A row a case: each treatment's image above its map, maps of a case on one scale. A PNG."""
    n, k = len(next(iter(sets.values()))), len(sets)
    fig = Figure(figsize=(1.6 * k, 3.3 * n), layout="constrained")
    axes = fig.subplots(2 * n, k, squeeze=False)
    for case in range(n):
        maps = {name: heatmaps.shares(part[case].sum((0, 1)).numpy()) for name, part in R.items()}
        limit = max(float(np.quantile(np.abs(list(maps.values())), heatmaps.LIMIT)), 1e-12)
        for column, (name, images) in enumerate(sets.items()):
            x, _, mask, _ = images[case]
            heatmaps.picture(255 * x.mean(0).numpy(), mask[0].numpy() > 0.5, axes[2 * case, column])
            heatmaps.heatmap(maps[name], mask[0].numpy() > 0.5, axes[2 * case + 1, column], limit)
            axes[2 * case, column].set_title(names.AUDIT_NAMES[name], fontsize=8)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=90)
    return buffer.getvalue()


ALT = (
    "A few images with each background, and below each its relevance map, red for and blue against the winning class, "
    "mask outlined."
)


def page(found: dict, model: str, data: str) -> str:
    """The HTML page of an `audit`; the names of files, classes and labels are escaped."""
    picture = {"stem": "Heatmaps", "alt": ALT, "pieces": pages.pieces(figure(*found["cases"])), "wide": True}
    thresholds = {"drop": names.AUDIT_DROP, "relative_share": names.AUDIT_SHARE, "useful": names.AUDIT_USEFUL}
    told = {"contents": (), "model": model, "data": data, "sentence": names.AUDIT_VERDICTS[found["kind"]]}
    return pages.render("audit.html.j2", found | told | {"figure": picture, "thresholds": thresholds})
