"""Where the files of a public data set lie: in a folder of their own or directly in the data folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from fedhpro_flwr.data.registry import DataSource

DOWNLOAD = "data.download = true would fetch it"
DOWNLOAD_AGAIN = "delete it and set data.download = true"


def public_files(source: DataSource, folder: str, names: tuple[str, ...], advice: str) -> list[Path]:
    """The files `names`, each from `root`/`folder` or from `root`.

    Args:
        source: its `root` is searched.
        folder: the set's own folder in `root`.
        names: of the files.
        advice: what else helps if one is missing, for the message.

    Raises:
        FileNotFoundError: one is missing; the message says where to put it.
    """
    root = source.folder()
    found = []
    for name in names:
        file = find_file(root, folder, name)
        if file is None:
            raise FileNotFoundError(f"data set {source.name!r}: put {name} into {root / folder} ({advice})")
        found.append(file)
    return found


def fetch_missing(source: DataSource, folder: str, torchvision_class: str) -> None:
    """Download into `root`/`folder` what is not there yet, from the addresses that torchvision's class lists.

    A file gets its name when it is complete and has the expected md5 sum: what an interrupted download leaves must not
    be taken for the file the next time.

    Args:
        source: its `root` is searched and written to.
        folder: the set's own folder in `root`.
        torchvision_class: of torchvision.datasets, one with a `split_list`.

    Raises:
        FileNotFoundError: a file cannot be fetched, or arrives damaged.
    """
    from torchvision import datasets  # slow to import
    from torchvision.datasets.utils import download_url

    root = source.folder()
    splits: dict[str, list[str]] = getattr(datasets, torchvision_class).split_list
    for address, name, md5 in (splits[part] for part in ("train", "test")):
        if find_file(root, folder, name):
            continue
        with fetching(source, address, f"put {name} into {root / folder}"):
            (root / folder).mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(prefix=".download-", dir=root / folder) as scratch:
                download_url(address, scratch, filename=name, md5=md5)
                Path(scratch, name).replace(root / folder / name)


@contextmanager
def fetching(source: DataSource, what: str, advice: str) -> Iterator[None]:
    """Around a download by torchvision.

    Args:
        source: the data set.
        what: is fetched.
        advice: what helps if it cannot be, for the message.

    Raises:
        FileNotFoundError: it cannot be fetched, or arrives damaged.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:  # RuntimeError: another md5 sum than torchvision expects, and MNIST's word
        raise FileNotFoundError(f"data set {source.name!r}: {what} cannot be fetched ({error}); {advice}") from error


def find_file(root: Path, folder: str, name: str) -> Path | None:
    """The file `name` of `root`/`folder`, else of `root`; None where it is in neither."""
    return next((file for file in (root / folder / name, root / name) if file.is_file()), None)
