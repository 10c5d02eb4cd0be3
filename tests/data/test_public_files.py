"""Where public files are looked for, and what is fetched: torchvision's download is replaced, nothing leaves here."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedhpro_flwr.data import DataSource
from fedhpro_flwr.data.public_files import fetch_missing, public_files


def test_own_folder_comes_before_the_data_folder(tmp_path: Path) -> None:
    source = DataSource(name="some", root=str(tmp_path))
    (tmp_path / "b").write_bytes(b"2")
    (tmp_path / "OWN").mkdir()
    (tmp_path / "OWN" / "a").write_bytes(b"1")
    (tmp_path / "a").write_bytes(b"3")
    assert public_files(source, "OWN", ("a", "b"), "") == [tmp_path / "OWN" / "a", tmp_path / "b"]
    with pytest.raises(FileNotFoundError, match=r"data set 'some': put c into .*OWN \(or do without\)$"):
        public_files(source, "OWN", ("a", "c"), "or do without")


def test_only_missing_files_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download_url(url: str, root: str, filename: str, md5: str) -> None:
        asked.append((url.rsplit("/", 1)[1], Path(root).parent, filename, len(md5)))
        Path(root, filename).write_bytes(b"fetched")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download_url)
    (tmp_path / "usps.bz2").write_bytes(b"another md5 sum than torchvision's: kept all the same")
    fetch_missing(DataSource(name="usps", root=str(tmp_path)), "USPS", "USPS")
    assert asked == [("usps.t.bz2", tmp_path / "USPS", "usps.t.bz2", 32)]
    assert [(file.name, file.read_bytes()) for file in (tmp_path / "USPS").iterdir()] == [("usps.t.bz2", b"fetched")]


@pytest.mark.parametrize("error", [OSError("no route"), RuntimeError("corrupted"), KeyboardInterrupt()])
def test_what_an_interrupted_download_leaves_does_not_count_as_fetched(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def download_url(url: str, root: str, filename: str, md5: str) -> None:
        tries.append(filename)
        Path(root, filename).write_bytes(b"a part")
        if len(tries) == 1:
            raise error

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download_url)
    source = DataSource(name="usps", root=str(tmp_path))
    with pytest.raises((FileNotFoundError, KeyboardInterrupt)):
        fetch_missing(source, "USPS", "USPS")
    assert list((tmp_path / "USPS").iterdir()) == []
    fetch_missing(source, "USPS", "USPS")
    assert tries == ["usps.bz2", "usps.bz2", "usps.t.bz2"]


@pytest.mark.parametrize("error", [OSError("no route"), RuntimeError("File not found or corrupted.")])
def test_failed_download_says_what_to_put_where(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download_url(*_args: str, **_kwargs: str) -> None:
        raise error

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download_url)
    with pytest.raises(FileNotFoundError, match=rf"'svhn': .* cannot be fetched \({error}\); put train_32x32.mat into"):
        fetch_missing(DataSource(name="svhn", root=str(tmp_path)), "SVHN", "SVHN")
