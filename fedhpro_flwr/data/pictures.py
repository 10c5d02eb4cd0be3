"""Picture files, in a folder or a .zip, and their pixels in one uint8 array."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedhpro_flwr.data.endless import is_endless

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

ENDINGS = "avif bmp gif jfif jp2 jpe jpeg jpg pgm png ppm tif tiff webp"
SUFFIXES = frozenset(f".{ending}" for ending in ENDINGS.split(" "))
GREY_MODES = frozenset(("1", "L", "LA"))
DEEP_MODES = ("I", "F")  # beginnings of the modes with 16 or 32 bits a pixel
LARGEST_FILE = 2**30  # unpacked from a .zip, where any size can hide; the most pixels that Pillow reads need half

# What Pillow raises at a damaged picture; the last four at tags of a TIFF that are not what they should be.
DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error)
ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)  # the last one: encrypted

Reader = Callable[[PurePosixPath], bytes]
Picture = npt.NDArray[np.uint8]  # [H, W] grey or [H, W, 3]


@dataclass(frozen=True)
class PictureFolder:
    """What lies in a folder or .zip, hidden files left out. Names are relative to `path`.

    Args:
        path: the folder or .zip.
        names: of the pictures, sorted.
        folders: names of the folders, also of empty ones if the archive lists them.
        read: content of a file by its name.
        others: files that are no pictures by their endings, sorted.
    """

    path: Path
    names: tuple[PurePosixPath, ...]
    folders: frozenset[PurePosixPath]
    read: Reader
    others: tuple[PurePosixPath, ...] = ()

    def left_out(self) -> str:
        """What is not looked at, in a sentence; "" if nothing."""
        if not self.others:
            return ""
        files = f"{len(self.others)} files are" if len(self.others) > 1 else "1 file is"
        return f"{self.path}: {files} left out, no picture by the ending, as {self.others[0]}"

    def tell_left_out(self) -> None:
        """Log that sentence, if there is one."""
        if sentence := self.left_out():
            getLogger("flwr").warning(sentence)

    def place(self, name: PurePosixPath) -> str:
        """Where a picture lies, for a sentence: its path, or the .zip and its name in there."""
        return str(self.path / name) if self.path.is_dir() else f"{self.path}: {name}"


@contextmanager
def open_pictures(path: Path) -> Iterator[PictureFolder]:
    """List a folder or .zip that exists; a .zip stays open as long as the context. Links in a folder are followed.

    Raises:
        ValueError: `path` is no folder and no readable .zip.
    """
    if is_endless(path):
        raise ValueError(f"{path} is a pipe or a device, no .zip file")
    if path.is_dir():
        yield _listed(path, _below(path, PurePosixPath(), frozenset()), unlisted(path).read)
        return
    try:
        with zipfile.ZipFile(path) as archive:
            infos = zip_entries(archive)
            entries = ((name, info.filename.endswith(("/", "\\"))) for name, info in infos.items())
            yield _listed(path, entries, lambda name: _unpacked(archive, infos[name]))
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged, truncated or no .zip file ({error})") from error


def zip_entries(archive: zipfile.ZipFile) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """What an archive lists, by name: "./a.png" is a.png; backslashes, which some programs write, separate folders."""
    return {PurePosixPath(info.filename.replace("\\", "/")): info for info in archive.infolist()}


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.file_size > LARGEST_FILE:
        raise ValueError(f"unpacked it has {info.file_size:,} bytes, at most {LARGEST_FILE:,} are read")
    return archive.read(info)


def _below(path: Path, name: PurePosixPath, above: frozenset[Path]) -> Iterator[tuple[PurePosixPath, bool]]:
    """What lies in the folder `name` of `path`, and whether it is a folder; hidden ones are not looked into.

    Links to folders are followed, which Path.rglob does not do, except those that lead back to a folder around them:
    they would have no end, and add nothing. `above` holds the real paths of the folders around.
    """
    above |= {(path / name).resolve()}
    try:
        entries = os.listdir(path / name)
    except PermissionError:
        return
    for inner in (name / entry for entry in entries):
        is_folder = (path / inner).is_dir()
        if is_folder and (_is_hidden(inner) or (path / inner).resolve() in above):
            continue
        yield inner, is_folder
        if is_folder:
            yield from _below(path, inner, above)


def _listed(path: Path, entries: Iterable[tuple[PurePosixPath, bool]], read: Reader) -> PictureFolder:
    found = [(name, is_folder) for name, is_folder in entries if name.parts and not _is_hidden(name)]
    files = sorted(name for name, is_folder in found if not is_folder)
    pictures = [name for name in files if name.suffix.lower() in SUFFIXES]
    others = [name for name in files if name.suffix.lower() not in SUFFIXES]
    folders = frozenset(name for name, is_folder in found if is_folder)
    return PictureFolder(path, tuple(pictures), folders, read, tuple(others))


def _is_hidden(name: PurePosixPath) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.parts)


def unlisted(folder: Path) -> PictureFolder:
    """A folder for pictures that are named elsewhere: nothing in it is listed, everything can be read."""
    return PictureFolder(folder, (), frozenset(), lambda name: _content(folder / name))


def _content(file: Path) -> bytes:
    if is_endless(file):
        raise ValueError("it is a pipe or a device")
    return file.read_bytes()


def decode(
    pictures: PictureFolder, names: Sequence[PurePosixPath], *, image_size: int = 0, colour: bool = False
) -> Tensor:
    """Decode pictures into one array that is filled in place: data sets can be large.

    Args:
        pictures: where they are read.
        names: of the pictures to decode, at least one.
        image_size: height and width that pictures are resized to (bilinear, smoothed if they shrink, the aspect
            ratio is not kept); 0 keeps them as they are.
        colour: always three channels; else one, unless a picture has colours.

    Returns:
        uint8 [N, 1 or 3, H, W].

    Raises:
        ValueError: a picture that cannot be opened, pictures of several sizes if `image_size` is 0, or more than fit
            into memory.
    """
    height, width = _decode_one(pictures, names[0], image_size).shape[:2]
    try:
        pixels = np.empty((len(names), 3, height, width), dtype=np.uint8)
    except MemoryError as error:
        raise ValueError(
            f"{pictures.path}: {len(names)} pictures of {width}x{height} pixels are larger than the memory ({error}); "
            "set data.image-size to a smaller side"
        ) from error
    for i, name in enumerate(names):
        picture = _decode_one(pictures, name, image_size)
        if picture.shape[:2] != (height, width):
            raise ValueError(
                f"{pictures.path}: pictures of several sizes, {names[0]} has {width}x{height} pixels and "
                f"{name} has {picture.shape[1]}x{picture.shape[0]}; set data.image-size, the side they are resized to"
            )
        colour |= picture.ndim == 3
        pixels[i] = picture.transpose(2, 0, 1) if picture.ndim == 3 else picture
    return torch.from_numpy(pixels if colour else pixels[:, :1].copy())


def open_picture(pictures: PictureFolder, name: PurePosixPath, *, least_side: int = 0) -> PillowImage:
    """One picture, of mode L if the file is grey, else RGB; a palette is colour, whatever colours are in it.

    Transparency is dropped: the pixels count as they are stored, without any background. It stands upright as its EXIF
    orientation says, since cameras store what they see and note how they were held; of several pages the first counts.

    Args:
        pictures: where it is read.
        name: of the picture.
        least_side: a large JPEG may be decoded at a fraction of its size, but with no side below this; 0: in full.

    Raises:
        ValueError: it is damaged, no picture, or is grey with more than 8 bits a pixel, which Pillow would clip to 255.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError  # not needed by a client that has its data in another form

    try:
        with Image.open(io.BytesIO(pictures.read(name))) as opened:
            is_deep = opened.mode.startswith(DEEP_MODES)
            opened.info.pop("transparency", None)  # of a palette: Pillow would warn for each picture that it is dropped
            if least_side:
                opened.draft(None, (least_side, least_side))
            opened.load()  # before errors are suppressed: a truncated file is refused
            with suppress(Exception):  # damaged EXIF data can raise any error; only the orientation is lost
                ImageOps.exif_transpose(opened, in_place=True)
            image = opened if is_deep else opened.convert("L" if opened.mode in GREY_MODES else "RGB")
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise ValueError(f"{pictures.place(name)} has more than {most:,} pixels; shrink it") from error
    except (*DAMAGE, *ZIP_DAMAGE) as error:
        why = "its format is unknown" if isinstance(error, UnidentifiedImageError) else error  # which names an object
        raise ValueError(f"{pictures.place(name)} is damaged, truncated or no picture ({why})") from error
    if is_deep:
        raise ValueError(f"{pictures.place(name)} has more than 8 bits a pixel; convert it to 8")
    return image


def _decode_one(pictures: PictureFolder, name: PurePosixPath, image_size: int) -> Picture:
    from PIL import Image

    # Decoding at four times the wanted size takes a third of the time for 600x450 pixels; the resized picture differs
    # by about one grey level.
    image = open_picture(pictures, name, least_side=4 * image_size)
    if image_size and image.size != (image_size, image_size):
        image = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
    return np.array(image, dtype=np.uint8)
