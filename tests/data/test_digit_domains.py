"""Digit sets as domains: order, resizing, which sets may take part; tiny registered sets and the real files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fedhpro_flwr.data import DATA_SETS, DataSet, DataSource, Split, load
from fedhpro_flwr.data.digit_domains import SHIPPED, join, resize
from fedhpro_flwr.data.digits import DIGITS

REAL = Path(os.environ.get("FEDHPRO_DATA_DIR") or Path(__file__).parents[2] / ".." / "shared" / "data")


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def split(count: int, *shape: int) -> Split:
    return Split(pixels(count, *shape, seed=count), torch.arange(count) % 10)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[DataSource]:
    """Registers grey [5 + 2, 1, 8, 8] and colour [4 + 3, 3, 16, 16]; returns what they were asked for."""
    sources: list[DataSource] = []

    def loader(train: int, test: int, *shape: int) -> Callable[[DataSource], DataSet]:
        def load_one(source: DataSource) -> DataSet:
            sources.append(source)
            channels = shape[0]
            mean, std = (0.1,) * channels, (0.2,) * channels
            return DataSet(source.name, split(train, *shape), split(test, *shape), DIGITS, mean, std)

        return load_one

    monkeypatch.setitem(DATA_SETS, "grey", loader(5, 2, 1, 8, 8))
    monkeypatch.setitem(DATA_SETS, "colour", loader(4, 3, 3, 16, 16))
    return sources


def test_domains_follow_each_other_in_the_order_of_their_names(asked: list[DataSource]) -> None:
    loaded = load(
        DataSource(name="digit-domains", root="somewhere", domains=" colour, grey", image_size=16, split_seed=7)
    )
    assert (loaded.domain_names, loaded.class_names) == (("colour", "grey"), DIGITS)
    assert loaded.train.domains is not None and loaded.test.domains is not None
    assert loaded.train.domains.tolist() == [0] * 4 + [1] * 5
    assert loaded.test.domains.tolist() == [0] * 3 + [1] * 2
    assert loaded.train.labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4]
    assert (loaded.mean, loaded.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert torch.equal(loaded.train.inputs[:4], split(4, 3, 16, 16).inputs)  # of that size already
    grey = loaded.train.inputs[4:]
    assert torch.equal(grey, resize(split(5, 1, 8, 8).inputs, 16).expand(-1, 3, -1, -1))
    # The parts keep their size: they are resized here, by one rule.
    assert [(source.name, source.root, source.domains, source.image_size, source.split_seed) for source in asked] == [
        ("colour", "somewhere", "", 0, 7),
        ("grey", "somewhere", "", 0, 7),
    ]


def test_images_become_32_pixels_where_no_size_is_given(asked: list[DataSource]) -> None:
    assert load(DataSource(name="digit-domains", domains="grey,colour")).input_shape == (3, 32, 32)
    assert load(DataSource(name="digit-domains", domains="grey", image_size=9)).input_shape == (3, 9, 9)


def test_a_path_is_for_the_domains_that_use_it(asked: list[DataSource]) -> None:
    load(DataSource(name="digit-domains", domains="grey", path="somewhere"))
    assert [source.path for source in asked] == ["somewhere"]


def test_train_limit_leaves_the_test_parts_whole(asked: list[DataSource]) -> None:
    loaded = load(DataSource(name="digit-domains", domains="grey,colour", train_limit=3))
    assert (len(loaded.train), len(loaded.test)) == (3, 5)
    assert loaded.train.domains is not None and len(loaded.train.domains) == 3


def test_join_lets_go_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedhpro_flwr.data.digit_domains.CHUNK", 2)  # the last chunk is a short one
    parts = [split(5, 1, 8, 8), split(3, 3, 16, 16)]
    joined = join(parts, 16)
    assert parts == []
    assert torch.equal(joined.inputs[5:], split(3, 3, 16, 16).inputs)
    assert torch.equal(joined.inputs[:5, 2:], resize(split(5, 1, 8, 8).inputs, 16))


def test_resize_by_hand() -> None:
    row = torch.tensor([[[[0, 100]]]], dtype=torch.uint8)
    # Halves of pixels: 0, a quarter, three quarters, 100.
    assert resize(row.expand(1, 1, 2, 2), 4)[0, 0, 0].tolist() == [0, 25, 75, 100]
    # To half the size every pixel weighs its neighbours 1 3 3 1 (cut off at the edge: 3 3 1).
    line = torch.tensor([0, 0, 0, 255], dtype=torch.uint8).expand(1, 1, 4, 4)
    assert resize(line, 2)[0, 0, 0].tolist() == [round(255 * 0 / 7), round(255 * 3 / 7)]
    same = pixels(2, 1, 8, 8)
    assert resize(same, 8) is same
    assert torch.equal(resize(torch.full((1, 3, 28, 28), 255, dtype=torch.uint8), 16), torch.full((1, 3, 16, 16), 255))


@pytest.mark.parametrize(("old", "new"), [(28, 32), (16, 32), (28, 16), (32, 16), (32, 28)])
def test_resize_is_pillows_but_for_a_grey_level(old: int, new: int) -> None:
    images = pixels(20, 1, old, old)
    theirs = [Image.fromarray(image[0].numpy()).resize((new, new), Image.Resampling.BILINEAR) for image in images]
    difference = resize(images, new)[:, 0].int() - torch.from_numpy(np.stack(theirs)).int()
    assert int(difference.abs().max()) <= 1


@pytest.mark.parametrize(
    ("domains", "message"),
    [
        ("grey,gray", r"data\.domains = 'grey,gray': 'gray' is unknown, there are mnist, usps, .*, and any data set"),
        ("digit-domains", "'digit-domains' is unknown"),
        ("grey,colour, grey", "'grey' stands twice"),
    ],
)
def test_names_are_refused_before_anything_is_loaded(domains: str, message: str, asked: list[DataSource]) -> None:
    with pytest.raises(ValueError, match=message):
        load(DataSource(name="digit-domains", domains=domains))
    assert asked == []


@pytest.mark.parametrize(
    "other",
    [
        DataSet("other", split(2, 1, 8, 8), split(2, 1, 8, 8), tuple("abcdefghij")),
        DataSet("other", split(2, 1, 8, 8), split(2, 1, 8, 8), tuple("01234")),
        DataSet("other", *[Split(torch.zeros(2, 64), torch.arange(2))] * 2, DIGITS),
        DataSet("other", *[Split(torch.zeros(2, 1, 8, 8), torch.arange(2))] * 2, DIGITS),
        DataSet("other", *[Split(torch.ones(2, 4, dtype=torch.int32), torch.arange(2))] * 2, DIGITS, vocabulary=9),
        DataSet("other", *[split(2, 2, 8, 8)] * 2, DIGITS, (0.0, 0.0), (1.0, 1.0)),
    ],
    ids=["letters", "five", "vectors", "floats", "text", "two channels"],
)
def test_sets_that_are_no_digits_are_refused(other: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATA_SETS, "other", lambda _source: other)
    with pytest.raises(ValueError, match=r"'other' is not a set of uint8 images of the digits 0 to 9, as mnist, "):
        load(DataSource(name="digit-domains", domains="other"))


def test_default_is_the_published_four(
    tmp_path: Path, asked: list[DataSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mnist", "usps", "svhn", "syn"):
        monkeypatch.setitem(DATA_SETS, name, DATA_SETS["grey"])
    assert load(DataSource(name="digit-domains")).domain_names == ("mnist", "usps", "svhn", "syn")


def test_missing_file_names_the_setting_and_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data\.domains = 'svhn,syn': data set 'svhn': put train_32x32\.mat"):
        load(DataSource(name="digit-domains", root=str(tmp_path), domains="svhn,syn"))


def test_shipped_names_exist() -> None:
    assert set(SHIPPED) <= DATA_SETS.keys()


@pytest.mark.skipif(
    not ((REAL / "USPS").is_dir() and (REAL / "SVHN").is_dir()), reason=f"no USPS or no part of SVHN in {REAL}"
)
def test_real_domains() -> None:
    loaded = load(DataSource(name="digit-domains", root=str(REAL), domains="svhn-part,usps", image_size=16))
    assert loaded.train.domains is not None and loaded.test.domains is not None
    assert np.bincount(loaded.train.domains).tolist() == [1083, 7291]
    assert np.bincount(loaded.test.domains).tolist() == [243, 2007]
    assert loaded.train.labels[:4].tolist() == [1, 9, 2, 3] and loaded.test.labels[243:246].tolist() == [9, 6, 3]
    usps = loaded.test.inputs[243:]
    assert torch.equal(usps[:, 0], usps[:, 2])  # grey
