"""Pictures of one value, and folders and archives of them."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

from PIL import Image


def png(value: int = 0, *, size: tuple[int, int] = (6, 5), colour: bool = False) -> bytes:
    """A picture of one value, size = (width, height)."""
    buffer = io.BytesIO()
    Image.new("RGB" if colour else "L", size, (value, 0, 255) if colour else value).save(buffer, "PNG")
    return buffer.getvalue()


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def zipped(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), "zip", folder))
