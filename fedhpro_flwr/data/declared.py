"""What the settings say of own data before anybody has read it: the names of its classes, the shape of a sample."""

from __future__ import annotations

import re
import unicodedata

from fedhpro_flwr.settings.flat_keys import ConfigError

# No more digits: a mistyped number should not ask for the memory of a million classes.
NUMBER = re.compile(r"[1-9][0-9]{0,5}")
CHANNELS = (1, 3)


def class_name(written: str) -> str:
    """A class's name as names are compared: in Unicode's form C.

    macOS writes an accented letter of a file's name as the letter and the accent, keyboards as one character. They look
    the same, and are the same class.
    """
    return unicodedata.normalize("NFC", written)


def declared_classes(text: str) -> tuple[str, ...]:
    """The class names that `data.classes` gives, in the order of the class ids: `cat, dog, fox`, or `10` for 0 to 9.

    Returns:
        The names; none for an empty text, which leaves the classes to the data.

    Raises:
        ConfigError: fewer than two classes, an empty name, or a name twice.
    """
    if not text.strip():
        return ()
    if NUMBER.fullmatch(text.strip()):
        names = [str(number) for number in range(int(text))]
    else:
        names = [class_name(name.strip()) for name in text.split(",")]
    if len(names) < 2 or not all(names):
        raise ConfigError(
            f"data.classes = {text!r}: write the names of at least two classes as name, name, name; "
            "or one number, so many classes named 0, 1, 2, ..."
        )
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise ConfigError(f"data.classes = {text!r}: {twice} comes twice")
    return tuple(names)


def declared_shape(text: str) -> tuple[int, ...]:
    """The shape that `data.input-shape` gives: `3x32x32` are images (channels, height, width), `64` vectors.

    Returns:
        The shape; () for an empty text, which leaves it to the data.

    Raises:
        ConfigError: not of one of the two forms.
    """
    if not text.strip():
        return ()
    parts = [part.strip() for part in text.split("x")]
    sizes = tuple(int(part) for part in parts if NUMBER.fullmatch(part))
    is_image = len(sizes) == 3 and sizes[0] in CHANNELS
    if len(sizes) != len(parts) or not (is_image or len(sizes) == 1):
        raise ConfigError(
            f"data.input-shape = {text!r}: write images as channels x height x width with 1 or 3 channels (3x32x32), "
            "vectors as their length (64)"
        )
    return sizes
