"""`syn-rendered`: digits rendered in the manner of the Synthetic Digits; no file is needed, and it is not `syn`.

Ganin and Lempitsky (2015) made theirs from Windows fonts by varying the text (numbers of one to three digits),
position, orientation, colours of background and stroke, and blur. The same is varied here, with the fonts that
matplotlib ships; numbers measured on these images are not comparable with those published on SYN.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from fedhpro_flwr.data.data_set import DataSet, Split
from fedhpro_flwr.data.digits import DIGITS
from fedhpro_flwr.data.registry import DataSource, data_set

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageFont import FreeTypeFont

Colour = tuple[int, ...]

TRAIN_SAMPLES, TEST_SAMPLES = 10_000, 2_000
SIDE = 32  # pixels of an image
CANVAS = 80  # pixels of the square that the text is drawn on; holds a turned window at the smallest scale
FONT_SIZE = 32  # pixels, on the canvas
FONTS = (
    "DejaVuSans-Bold.ttf",
    "DejaVuSans-BoldOblique.ttf",
    "DejaVuSans-Oblique.ttf",
    "DejaVuSans.ttf",
    "DejaVuSansMono-Bold.ttf",
    "DejaVuSansMono-Oblique.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSerif-Bold.ttf",
    "DejaVuSerif-BoldItalic.ttf",
    "DejaVuSerif-Italic.ttf",
    "DejaVuSerif.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralBol.ttf",
    "STIXGeneralBolIta.ttf",
    "STIXGeneralItalic.ttf",
    "cmb10.ttf",
    "cmr10.ttf",
    "cmss10.ttf",
    "cmtt10.ttf",
)
HEIGHT = (15.0, 26.0)  # pixels of a digit in the image
SHIFT = 3.0  # pixels that the digit's centre may lie off the image's, each way
TURN = np.deg2rad(20.0)  # either way
BLUR = 1.2  # largest radius of the Gaussian, pixels
CONTRAST = 110.0  # least distance of the stroke's colour from the others, of at most 442
OUTLINE_WIDTH = 2  # pixels on the canvas, for half of the images


@data_set("syn-rendered", uses=())
def syn_rendered(source: DataSource) -> DataSet:
    """10,000 + 2,000 rendered colour digits of 32x32 pixels, [N, 3, 32, 32], drawn from `split_seed`.

    Raises:
        FileNotFoundError: the installed matplotlib lacks a font.
    """
    train, test = (
        render_digits(count, np.random.default_rng([source.split_seed, part]))
        for part, count in enumerate((TRAIN_SAMPLES, TEST_SAMPLES))
    )
    # Fixed numbers, not statistics of what was drawn: another seed is the same data set.
    return DataSet("syn-rendered", train, test, DIGITS, (0.5,) * 3, (0.5,) * 3)


def render_digits(count: int, rng: np.random.Generator) -> Split:
    """Draw `count` windows on a number, the digit in the middle being the label.

    Args:
        count: N.
        rng: of every draw; the same state gives the same bits with the same Pillow and fonts.

    Returns:
        Images [N, 3, 32, 32] and labels in 0..9.

    Raises:
        FileNotFoundError: the installed matplotlib lacks a font.
    """
    from PIL import Image, ImageFilter

    fonts = load_fonts()
    labels = rng.integers(0, 10, count)
    lengths = rng.integers(1, 4, count)  # digits of the number
    places = rng.integers(0, lengths)  # which of them is in the middle
    digits = rng.integers(0, 10, (count, 3))
    digits[np.arange(count), places] = labels
    font_ids = rng.integers(0, len(fonts), count)
    heights = rng.uniform(*HEIGHT, count)
    shifts = rng.uniform(-SHIFT, SHIFT, (count, 2))
    turns = rng.uniform(-TURN, TURN, count)
    blurs = rng.uniform(0, BLUR, count)
    outline_widths = OUTLINE_WIDTH * rng.integers(0, 2, count)
    colours = draw_colours(count, rng)

    images = np.empty((count, SIDE, SIDE, 3), dtype=np.uint8)
    for i in range(count):
        font, number = fonts[font_ids[i]], "".join(map(str, digits[i, : lengths[i]]))
        background, stroke, outline = (tuple(colour[i].tolist()) for colour in colours)
        canvas = _draw(number, int(places[i]), font, background, stroke, outline, int(outline_widths[i]))
        window = _window(_height(font) / heights[i], turns[i], shifts[i])
        image = canvas.transform(
            (SIDE, SIDE), Image.Transform.AFFINE, window, Image.Resampling.BILINEAR, fillcolor=background
        )
        images[i] = np.asarray(image.filter(ImageFilter.GaussianBlur(float(blurs[i]))))
    chw = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return Split(torch.from_numpy(chw), torch.from_numpy(labels))


def _draw(
    number: str,
    place: int,
    font: FreeTypeFont,
    background: Colour,
    stroke: Colour,
    outline: Colour,
    outline_width: int,
) -> Picture:
    """The number on a canvas, with its digit at `place` in the centre."""
    from PIL import Image, ImageDraw

    canvas = Image.new("RGB", (CANVAS, CANVAS), background)
    left = CANVAS / 2 - font.getlength(number[:place]) - font.getlength(number[place]) / 2
    ImageDraw.Draw(canvas).text(
        (left, CANVAS / 2 + _height(font) / 2),
        number,
        font=font,
        anchor="ls",  # left end, baseline
        fill=stroke,
        stroke_width=outline_width,
        stroke_fill=outline,
    )
    return canvas


def _height(font: FreeTypeFont) -> float:
    return -font.getbbox("0", anchor="ls")[1]


def _window(scale: float, turn: float, shift: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """Pillow's (a, b, c, d, e, f): the pixel (x, y) of the image shows (ax + by + c, dx + ey + f) of the canvas."""
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    x, y = SIDE / 2 + shift  # where in the image the canvas's centre lies
    return cos, sin, CANVAS / 2 - cos * x - sin * y, -sin, cos, CANVAS / 2 + sin * x - cos * y


def load_fonts() -> list[FreeTypeFont]:
    """The fonts of `FONTS` from matplotlib's folder, in that order.

    Raises:
        FileNotFoundError: one is missing.
    """
    from matplotlib import get_data_path
    from PIL import ImageFont

    folder = Path(get_data_path()) / "fonts" / "ttf"
    for name in FONTS:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"data set 'syn-rendered': {folder} lacks {name}; install matplotlib again")
    # The basic layout: the other one depends on libraries outside of Pillow.
    return [ImageFont.truetype(str(folder / name), FONT_SIZE, layout_engine=ImageFont.Layout.BASIC) for name in FONTS]


def draw_colours(
    count: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Colours [N, 3] of background, stroke and outline; the stroke is at least CONTRAST from both others."""
    stroke = rng.integers(0, 256, (count, 3))
    others = []
    for _ in range(2):
        colour = rng.integers(0, 256, (count, 3))
        while len(close := np.flatnonzero(np.linalg.norm(colour - stroke, axis=1) < CONTRAST)):
            colour[close] = rng.integers(0, 256, (len(close), 3))
        others.append(colour.astype(np.uint8))
    return others[0], stroke.astype(np.uint8), others[1]
