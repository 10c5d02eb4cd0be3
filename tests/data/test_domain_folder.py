"""The user's own pictures of several domains, in a folder or a .zip."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fedhpro_flwr.data import DataSource, load


def png(value: int = 0, size: tuple[int, int] = (6, 5)) -> bytes:
    """A grey picture of one value, size = (width, height)."""
    buffer = io.BytesIO()
    Image.new("L", size, value).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(params=["folder", "zip"])
def source_of(request: pytest.FixtureRequest, tmp_path: Path):
    def make(files: dict[str, bytes], **options: float | str) -> DataSource:
        folder = tmp_path / "pictures"
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        path = folder if request.param == "folder" else Path(shutil.make_archive(str(folder), "zip", folder))
        return DataSource(name="domain-folder", path=str(path), **options)

    return make


def pacs(per_class: int = 5) -> dict[str, bytes]:
    """Two domains with two classes; a picture's value is 100 * domain + 10 * class + number."""
    return {
        f"{domain}/{name}/{i}.png": png(100 * d + 10 * c + i)
        for d, domain in enumerate(("photo", "sketch"))
        for c, name in enumerate(("dog", "house"))
        for i in range(per_class)
    }


def test_domains_and_classes_by_name_and_a_test_part_of_each(source_of) -> None:
    source = source_of(pacs() | {"sketch/.DS_Store": b"", "__MACOSX/photo/dog/._0.png": b""})
    loaded, again = load(source), load(source)
    assert (loaded.domain_names, loaded.class_names) == (("photo", "sketch"), ("dog", "house"))
    assert (loaded.input_shape, loaded.mean, loaded.std) == ((1, 5, 6), (0.5,), (0.5,))
    for split in (loaded.train, loaded.test):
        value = split.inputs[:, 0, 0, 0].long()
        assert torch.equal(value // 100, split.domains) and torch.equal(value % 100 // 10, split.labels)
    groups = 2 * loaded.test.domains + loaded.test.labels
    assert np.bincount(groups).tolist() == [1, 1, 1, 1]  # 0.2 of five, in every domain and class
    assert torch.equal(loaded.test.inputs, again.test.inputs)


def test_train_and_test_folders(source_of) -> None:
    files = {f"{domain}/train/{name}/0.png": png(1) for domain in "ab" for name in "xy"}
    files |= {"a/test/x/0.png": png(2), "b/test/y/0.png": png(3), "b/test/y/1.png": png(3)}
    loaded = load(source_of(files))
    assert loaded.train.domains.tolist() == [0, 0, 1, 1]
    assert loaded.train.labels.tolist() == [0, 1, 0, 1]
    assert loaded.test.domains.tolist() == [0, 1, 1]
    assert loaded.test.labels.tolist() == [0, 1, 1]
    assert loaded.test.inputs[:, 0, 0, 0].tolist() == [2, 3, 3]


def test_a_folder_around_the_domains_does_not_matter(source_of) -> None:
    loaded = load(source_of({f"PACS/{name}": content for name, content in pacs().items()}))
    assert (loaded.domain_names, loaded.class_names) == (("photo", "sketch"), ("dog", "house"))
    assert torch.equal(loaded.train.inputs[:, 0, 0, 0].long() // 100, loaded.train.domains)


def test_domains_chosen_in_another_order(source_of) -> None:
    loaded = load(source_of(pacs() | {"art/dog/0.png": png()}, domains="sketch, photo"))
    assert loaded.domain_names == ("sketch", "photo")
    assert torch.equal(loaded.train.inputs[:, 0, 0, 0].long() // 100, 1 - loaded.train.domains)


def test_sizes_that_differ_between_domains(source_of) -> None:
    files = pacs() | {f"web/{name}/{i}.png": png(200, size=(30, 20)) for name in ("dog", "house") for i in range(5)}
    with pytest.raises(ValueError, match=r"pictures of several sizes, .*; set data\.image-size"):
        load(source_of(files))
    loaded = load(source_of(files, image_size=8))
    assert loaded.input_shape == (1, 8, 8)
    assert loaded.train.inputs[loaded.train.domains == 2].unique().tolist() == [200]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"art/dog/0.png": png()}, "domain art lacks the class house, which domain photo has"),
        ({"sketch/cat/0.png": png()}, "domain photo lacks the class cat, which domain sketch has"),
        ({"sketch/cat/notes.txt": b""}, "domain sketch: the class folder cat holds no pictures"),
        ({"sketch/0.png": png()}, r"domain sketch: 0\.png lies outside of the folders of classes"),
        ({"cover.png": png()}, r"cover\.png lies outside of the folders of domains"),
        ({"art/notes.txt": b""}, "domain art has no folders of classes"),
        ({"art/train/dog/0.png": png()}, "domain art has no folders of classes"),
        ({"sketch/dog/more/0.png": png()}, "domain sketch has no folders of classes"),
        (
            {f"art/{part}/{name}/0.png": png() for part in ("train", "test") for name in ("dog", "house")},
            "domain art has train and test folders, domain photo has not",
        ),
        ({"sketch/house/9.png": b"no picture"}, r"sketch/house/9\.png is damaged, truncated or no picture"),
    ],
)
def test_refusals(source_of, extra: dict[str, bytes], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load(source_of(pacs() | extra))
    assert "\n" not in str(caught.value)


def test_folders_without_domains_are_refused(source_of, tmp_path: Path) -> None:
    parts = {f"{part}/dog/0.png": png() for part in ("Train", "val", "test")}  # the layout of image-folder
    with pytest.raises(ValueError, match="has no folders of domains: it needs domain/class/picture"):
        load(source_of(parts))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no folders of domains"):
        load(DataSource(name="domain-folder", path=str(tmp_path / "empty")))
    with pytest.raises(ValueError, match=r"data\.name = 'domain-folder' needs data\.path"):
        load(DataSource(name="domain-folder"))
