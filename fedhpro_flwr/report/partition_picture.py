"""The client-by-class table of a partition as a heat map."""

from __future__ import annotations

from fedhpro_flwr.printable import legible
from fedhpro_flwr.report.drawing import ACCENTS, INK, WIDTH, Picture, new_figure, picture, whole_numbers
from fedhpro_flwr.report.runs import Division

MOST_WRITTEN = 20  # clients and classes; if there are no more, every cell has its number written in it
MOST_NAMED = 30  # classes; if there are no more, each has its name below it
TALLEST, THINNEST = 6.5, 0.055  # inches: all rows together if no numbers are written; a row that is not blended
STRONGEST = 0.72  # opacity of the largest count: numbers stay legible on it, on a light and on a dark page


def partition_picture(division: Division, name: str, whose: str) -> Picture:
    """Training samples of each client (row) and class (column): the darker, the more; empty cells are blank.

    Args:
        division: the table.
        name: of the picture.
        whose: which runs have this partition, for the caption.
    """
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_rgb

    clients, classes = division.counts.shape
    largest = max(int(division.counts.max()), 1)
    written = clients <= MOST_WRITTEN and classes <= MOST_WRITTEN
    row = 0.27 if written else min(0.2, TALLEST / clients)
    width = max(WIDTH, classes * 0.38 + 0.9) if written else WIDTH * (1 if classes <= MOST_NAMED else 1.6)
    names = [legible(str(class_name), 16) for class_name in division.class_names] if classes <= MOST_NAMED else []
    longest = max(map(len, names), default=0)
    is_long = longest > 4
    figure, axes = new_figure(width, 0.8 + row * clients + (0.06 * longest if is_long else 0))
    accent = to_rgb(ACCENTS[0])
    # From transparent to the accent colour, so that it fits any background.
    shades = LinearSegmentedColormap.from_list("samples", [(*accent, 0.0), (*accent, STRONGEST)])
    image = axes.imshow(
        division.counts,
        aspect="auto",
        cmap=shades,
        norm=PowerNorm(0.5, 0, largest),
        interpolation="nearest" if row >= THINNEST else "auto",  # "nearest" leaves out rows thinner than a pixel
    )
    if written:
        for client in range(clients):
            for label in range(classes):
                if count := int(division.counts[client, label]):
                    axes.text(label, client, f"{count}", ha="center", va="center", fontsize=9, color=INK)
    else:
        bar = figure.colorbar(image, ax=axes, shrink=0.6, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.tick_params(colors=INK, length=0)
    if names:
        axes.set_xticks(
            range(classes),
            names,
            rotation=60 if is_long else 0,
            ha="right" if is_long else "center",
            rotation_mode="anchor",
        )
    else:
        whole_numbers(axes)
    if written:
        domains = [f" {domain}" if domain else "" for domain in division.client_domains]
        axes.set_yticks(range(clients), [f"{client}{domain}" for client, domain in enumerate(domains)])
    axes.set(xlabel="class", ylabel="client")
    axes.grid(visible=False)
    sizes = division.counts.sum(1)
    said = f"{clients} clients share {sizes.sum():,} training samples of {classes} classes"
    said += f", {sizes.min():,} to {sizes.max():,} a client"
    return picture(
        figure,
        name,
        f"{whose}: {said}.",
        f"Heat map of samples by client and class. {said}.",
        wide=width > 1.25 * WIDTH,
    )
