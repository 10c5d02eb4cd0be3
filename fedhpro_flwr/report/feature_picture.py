"""Features in the plane as a scatter plot: a colour for each class, prototypes as stars."""

from __future__ import annotations

import colorsys
from textwrap import fill

import numpy as np

from fedhpro_flwr.printable import legible
from fedhpro_flwr.report.drawing import INK, WIDTH, Picture, new_figure, picture
from fedhpro_flwr.report.features import Features, Plane

MOST_NAMED = 20  # classes; if there are no more, each has its name written at its middle


def class_color(label: int, classes: int) -> tuple[float, float, float]:
    """Hues around the colour circle, in two alternating lightnesses; names written in the picture help further."""
    return colorsys.hls_to_rgb(label / max(classes, 1), 0.42 if label % 2 else 0.58, 0.62)


def feature_picture(features: Features, plane: Plane, name: str, title: str, caption: str) -> Picture:
    """Samples as points and prototypes as stars in the colours of their classes.

    Args:
        features: whose points these are.
        plane: the points.
        name: of the picture.
        title: over the plot: which group and projection.
        caption: under it.
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    figure, axes = new_figure(WIDTH, 4.1)
    classes = len(features.class_names)
    stroke = np.array([1e-4 * np.ptp(plane.samples[:, 0]), 0.0])
    for label in range(classes):
        own = plane.samples[(features.labels == label).numpy()]
        if len(own):
            # A class is one path of dots (short strokes with round ends), which takes a tenth of the bytes of markers.
            ends = np.stack([own, own + stroke], axis=1).reshape(-1, 2)
            path = Path(ends.tolist(), [Path.MOVETO, Path.LINETO] * len(own))
            path.should_simplify = False  # simplified, a path would lose such short strokes
            dots = PathPatch(
                path, edgecolor=class_color(label, classes), facecolor="none", lw=3.6, capstyle="round", alpha=0.75
            )
            dots.set_snap(False)  # snapped to whole pixels they have no length, and are missing in the PNG
            axes.add_patch(dots)
            if classes <= MOST_NAMED:
                axes.annotate(
                    legible(str(features.class_names[label]), 18),
                    tuple(np.median(own, axis=0).tolist()),
                    color=INK,
                    fontsize=10,
                    weight="bold",
                    ha="center",
                    va="center",
                )
    if len(plane.prototypes):
        axes.scatter(
            plane.prototypes[:, 0],
            plane.prototypes[:, 1],
            s=60,
            marker="*",
            color=[class_color(int(label), classes) for label in features.prototype_labels],
            edgecolors=INK,
            linewidths=0.6,
            zorder=3,
        )
    axes.update_datalim(plane.samples.tolist())
    axes.autoscale_view()
    axes.set(xticks=[], yticks=[])
    axes.set_title(fill(title, 54), color=INK, fontsize=10)
    axes.grid(visible=False)
    said = f"{len(plane.samples)} samples of {classes} classes and {len(plane.prototypes)} prototypes"
    return picture(figure, name, caption, f"Scatter plot, {title}: {said}.")
