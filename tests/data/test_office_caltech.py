"""Office-Caltech as pictures and as histograms: made-up files in the distributed layouts, and the real histograms."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import loadmat, savemat

from fedhpro_flwr.data import DataSource, load
from fedhpro_flwr.data.office_caltech import DOMAINS, published_split
from fedhpro_flwr.data.office_caltech_surf import CLASSES, unit_rows

REAL = Path(os.environ.get("FEDHPRO_DATA_DIR") or Path(__file__).parents[2] / ".." / "shared" / "data")
MAT_FILES = ("caltech10.mat", "amazon.mat", "webcam.mat", "dslr.mat")  # in the order of DOMAINS


def jpeg(value: int, size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size, value).save(buffer, "JPEG", quality=100)
    return buffer.getvalue()


def make_tree(root: Path, folder: str = "Office-Caltech10", per_class: int = 11) -> Path:
    """A picture's value is 60 * domain + its position in its class; sizes differ."""
    for d, domain in enumerate(DOMAINS):
        for c, name in enumerate(CLASSES):
            inside = root / folder / (domain.upper() if d == 1 else domain) / name
            inside.mkdir(parents=True)
            for i in range(per_class):
                (inside / f"frame_{i:04}.jpg").write_bytes(jpeg(60 * d + i, (10 + c, 8 + d)))
    return root


def test_published_split_by_hand() -> None:
    domains = [7] * 12 + [2] * 8 + [7] * 8  # 7 goes on behind the eight samples of 2
    train, test = published_split(domains)
    assert test.tolist() == [8, 9, 26, 27]
    assert train.tolist() == [i for i in range(28) if i not in (8, 9, 26, 27)]


def test_published_split_is_the_rule_of_positions() -> None:
    domains = np.random.default_rng(0).integers(0, 6, 300)
    train, test = published_split(domains)
    for i in range(300):
        position = int((domains[:i] == domains[i]).sum())
        assert (i in test) == (position % 10 in (8, 9))
    assert sorted([*train, *test]) == list(range(300))


def test_pictures_split_by_position_and_resized(tmp_path: Path) -> None:
    loaded = load(DataSource(name="office-caltech", root=str(make_tree(tmp_path))))
    assert (loaded.domain_names, loaded.class_names) == (DOMAINS, CLASSES)
    assert (loaded.input_shape, loaded.train.inputs.dtype) == ((3, 32, 32), torch.uint8)
    assert (loaded.mean, loaded.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    # Eleven pictures of each of ten classes: the position in the domain is 11 * class + position in the class.
    of_domain = [(i // 11, i % 11) for i in range(110)]
    for split, rest in ((loaded.train, range(8)), (loaded.test, (8, 9))):
        expected = [pair for i, pair in enumerate(of_domain) if i % 10 in rest] * len(DOMAINS)
        value = split.inputs[:, 0, 5, 5].long()
        assert torch.equal(value // 60, split.domains)
        assert list(zip(split.labels.tolist(), (value % 60).tolist(), strict=True)) == expected
    assert np.bincount(loaded.test.domains).tolist() == [22] * 4


def test_pictures_are_counted_in_the_order_of_torchvisions_image_folder(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    folder = make_tree(tmp_path) / "Office-Caltech10" / "webcam"
    for i, name in enumerate(("a10.jpg", "a2.jpg", "Z.jpg")):  # neither by number nor without regard to capitals
        (folder / "bike" / name).write_bytes(jpeg(200 + 10 * i, (9, 9)))
    samples = ImageFolder(str(folder)).samples
    with Image.open(samples[18][0]) as first_test_of_second_ten:
        value = first_test_of_second_ten.getpixel((4, 4))
    loaded = load(DataSource(name="office-caltech", root=str(tmp_path), domains="webcam"))
    assert loaded.test.labels.tolist() == [label for i, (_, label) in enumerate(samples) if i % 10 in (8, 9)]
    assert loaded.train.labels.tolist() == [label for i, (_, label) in enumerate(samples) if i % 10 < 8]
    assert int(loaded.test.inputs[2, 0, 5, 5]) == value


@pytest.mark.parametrize("folder", ["office_caltech_10", "Office-Caltech", "office_caltech", "OfficeCaltech10"])
def test_names_of_the_folder(folder: str, tmp_path: Path) -> None:
    source = DataSource(name="office-caltech", root=str(make_tree(tmp_path, folder, 9)), domains="dslr", image_size=9)
    loaded = load(source)
    assert (loaded.domain_names, loaded.input_shape) == (("dslr",), (3, 9, 9))
    assert (len(loaded.train), len(loaded.test)) == (72, 18)


def test_what_is_missing_or_of_another_layout(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"put the folder Office-Caltech10 into .* caltech, amazon, webcam, dslr"
    ):
        load(DataSource(name="office-caltech", root=str(tmp_path)))
    root = make_tree(tmp_path, per_class=1)
    folder = root / "Office-Caltech10"
    (folder / "dslr").rename(folder / "other")
    with pytest.raises(FileNotFoundError, match=r"put the folder dslr of class/picture\.jpg into .*Office-Caltech10"):
        load(DataSource(name="office-caltech", root=str(root)))
    (folder / "webcam" / "mug" / "frame_0000.jpg").rename(folder / "webcam" / "frame.txt")
    (folder / "webcam" / "mug").rmdir()
    with pytest.raises(ValueError, match="domain webcam lacks the class mug, which domain caltech has"):
        load(DataSource(name="office-caltech", root=str(root), domains="caltech,webcam"))
    with pytest.raises(ValueError, match=r"has 9 classes, but Office-Caltech is domain/class/picture\.jpg with 10"):
        load(DataSource(name="office-caltech", root=str(root), domains="webcam"))


def save_histograms(folder: Path, **changes: np.ndarray) -> Path:
    """Four files; domain d has 9 + d rows of each class, and row i of a domain counts 3 words in the entry i % 5."""
    folder.mkdir(parents=True, exist_ok=True)
    for d, name in enumerate(MAT_FILES):
        labels = np.repeat(np.arange(1, 11), 9 + d)
        rows = np.arange(len(labels))
        histograms = np.zeros((len(labels), 5), np.uint8)
        histograms[rows, rows % 5] = 3
        savemat(folder / name, {"fts": histograms, "labels": labels[:, None]} | (changes if d == 3 else {}))
    return folder


def test_unit_rows_by_hand() -> None:
    rows = unit_rows(np.array([[1, 0, 0, 3], [2, 2, 2, 2]], np.float32))
    np.testing.assert_allclose(rows, [[1, 0, 0, 3**0.5], [1, 1, 1, 1]], rtol=1e-6)
    counts = np.random.default_rng(0).integers(0, 70, (20, 800)).astype(np.float32)
    np.testing.assert_allclose((unit_rows(counts) ** 2).mean(axis=1), np.ones(20), rtol=1e-6)
    np.testing.assert_allclose(unit_rows(counts), unit_rows(3 * counts), rtol=1e-6)  # the number of words drops out


def test_histograms_and_the_names_of_their_files(tmp_path: Path) -> None:
    folder = save_histograms(tmp_path / "OfficeCaltech10_SURF")
    (folder / "amazon.mat").rename(folder / "Amazon_SURF_L10.mat")
    (folder / "amazon_zscore_SURF_L10.mat").write_bytes(b"another file of the same distribution")
    loaded = load(DataSource(name="office-caltech-surf", root=str(tmp_path), domains="dslr,amazon"))
    assert (loaded.domain_names, loaded.class_names) == (("dslr", "amazon"), CLASSES)
    assert (loaded.train.inputs.dtype, loaded.input_shape) == (torch.float32, (5,))
    assert np.bincount(loaded.train.domains).tolist() == [96, 80]  # of 120 and 100 rows
    assert np.bincount(loaded.test.domains).tolist() == [24, 20]
    row = loaded.test.inputs[0]  # row 8 of dslr
    assert row.tolist() == pytest.approx([0, 0, 0, 5**0.5, 0])
    assert loaded.test.labels[:6].tolist() == [0, 0, 1, 1, 2, 2]  # rows 8, 9, 18, 19, 28, 29 of twelve a class
    all_of_them = load(DataSource(name="office-caltech-surf", path=str(folder)))
    assert (all_of_them.domain_names, len(all_of_them.train), len(all_of_them.test)) == (DOMAINS, 336, 84)


def test_histograms_in_another_order_are_split_as_if_they_stood_class_by_class(tmp_path: Path) -> None:
    histograms = np.random.default_rng(1).integers(1, 9, (60, 5), dtype=np.uint8)
    labels = np.repeat(np.arange(1, 11), 6)
    mixed = np.argsort(np.tile(np.arange(6), 10), kind="stable")  # 1, 2, .., 10, 1, 2, ..; each class keeps its order
    loaded = []
    for name, order in (("sorted", np.arange(60)), ("mixed", mixed)):
        (tmp_path / name).mkdir()
        savemat(tmp_path / name / "dslr.mat", {"fts": histograms[order], "labels": labels[order][:, None]})
        loaded.append(load(DataSource(name="office-caltech-surf", path=str(tmp_path / name), domains="dslr")))
    assert torch.equal(loaded[0].test.inputs, loaded[1].test.inputs)
    assert loaded[1].test.labels.tolist() == [1, 1, 3, 3, 4, 4, 6, 6, 8, 8, 9, 9]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.arange(120)}, r"dslr\.mat: labels must be whole numbers from 1 to 10"),
        ({"labels": np.full(120, 1.5)}, "labels must be whole numbers from 1 to 10"),
        ({"labels": np.ones(7)}, r"fts must be numbers \[n, F\] with n labels, got \[120, 5\] and 7"),
        ({"fts": np.zeros((120, 5))}, "with a sum above 0 in each row"),
        ({"fts": np.full((120, 5), -1.0)}, "fts must be histograms, not negative"),
        ({"fts": np.full((120, 5), np.nan)}, "fts must be histograms"),
        ({"fts": np.tile([9.0, -1, 1, 1, 1], (120, 1))}, "fts must be histograms, not negative"),
        ({"fts": np.ones((120, 5, 2))}, r"fts must be numbers \[n, F\] with n labels, got \[120, 5, 2\] and 120"),
        ({"fts": np.ones((120, 5)) * 1j}, r"fts must be numbers \[n, F\] with n labels, got \[120, 5\] and 120"),
        ({"fts": np.ones((120, 6))}, r"dslr\.mat has histograms of 6 entries, caltech10\.mat of 5"),
    ],
)
def test_histograms_that_cannot_be_used(tmp_path: Path, changes: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(DataSource(name="office-caltech-surf", path=str(save_histograms(tmp_path, **changes))))


def test_missing_and_damaged_histograms(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"put the file caltech10\.mat into .*OfficeCaltech10_SURF"):
        load(DataSource(name="office-caltech-surf", root=str(tmp_path)))
    file = save_histograms(tmp_path) / "webcam.mat"
    content = file.read_bytes()
    source = DataSource(name="office-caltech-surf", path=str(tmp_path))
    for damaged in (b"", b"no matrix", content[:100], content[:200], content[:-20]):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"webcam\.mat is damaged, truncated or no \.mat file"):
            load(source)
    savemat(file, {"other": np.ones(3)})
    with pytest.raises(ValueError, match=r"webcam\.mat needs the arrays fts and labels"):
        load(source)


@pytest.mark.skipif(not (REAL / "OfficeCaltech10_SURF").is_dir(), reason=f"no OfficeCaltech10_SURF in {REAL}")
def test_real_histograms() -> None:
    loaded = load(DataSource(name="office-caltech-surf", root=str(REAL)))
    assert (loaded.domain_names, loaded.input_shape) == (DOMAINS, (800,))
    assert np.bincount(loaded.train.domains).tolist() == [899, 768, 237, 127]
    assert np.bincount(loaded.test.domains).tolist() == [224, 190, 58, 30]
    dslr = loaded.test.labels[loaded.test.domains == 3]
    assert np.bincount(dslr, minlength=10).tolist() == [2, 4, 2, 2, 2, 6, 4, 2, 2, 4]
    first = loadmat(REAL / "OfficeCaltech10_SURF" / "caltech10.mat")["fts"][0].astype(float)
    expected = np.sqrt(800 * first / first.sum())
    np.testing.assert_allclose(loaded.train.inputs[0], expected, rtol=1e-6)
