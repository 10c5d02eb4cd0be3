"""The user's own .npz: every layout and shape that is allowed, every refusal."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from fedhpro_flwr.data import DataSet, DataSource, load

RNG = np.random.default_rng(0)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 2])


def load_arrays(tmp_path: Path, **arrays: np.ndarray) -> DataSet:
    file = tmp_path / "own.npz"
    np.savez(file, **arrays)
    return load(DataSource(name="npz", path=str(file)))


def pixels(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    "keys",
    [("x_train", "y_train", "x_test", "y_test"), ("train_images", "train_labels", "test_images", "test_labels")],
)
def test_layouts_with_a_test_part(tmp_path: Path, keys: tuple[str, ...]) -> None:
    images, test_images = pixels(10, 6, 5), pixels(4, 6, 5)
    arrays = dict(zip(keys, (images, LABELS, test_images, np.array([2, 0, 1, 2])), strict=True))
    loaded = load_arrays(tmp_path, **arrays)
    assert torch.equal(loaded.train.inputs, torch.from_numpy(images)[:, None])
    assert torch.equal(loaded.test.inputs, torch.from_numpy(test_images)[:, None])
    assert loaded.class_names == ("0", "1", "2")
    assert (loaded.mean, loaded.std) == ((0.5,), (0.5,))


@pytest.mark.parametrize("keys", [("images", "labels"), ("x_train", "y_train")])
def test_a_test_part_is_split_off_where_there_is_none(tmp_path: Path, keys: tuple[str, str]) -> None:
    images = np.arange(10, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    np.savez(tmp_path / "own.npz", **{keys[0]: images, keys[1]: LABELS})
    first, again = (load(DataSource(name="npz", path=str(tmp_path / "own.npz"), test_share=0.3)) for _ in range(2))
    assert torch.equal(first.test.inputs, again.test.inputs)
    assert np.bincount(first.test.labels).tolist() == [1, 1, 1]
    ids = [*first.train.inputs[:, 0, 0, 0].tolist(), *first.test.inputs[:, 0, 0, 0].tolist()]
    assert sorted(ids) == list(range(10))
    both = torch.cat([first.train.labels, first.test.labels])
    assert both.tolist() == LABELS[ids].tolist()  # labels stay with their images


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((10, 6, 5), (1, 6, 5)), ((10, 6, 5, 3), (3, 6, 5)), ((10, 6, 5, 1), (1, 6, 5)), ((10, 3, 6, 5), (3, 6, 5)),
     ((10, 1, 6, 5), (1, 6, 5))],
)  # fmt: skip
def test_image_shapes(tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    for images in (pixels(*shape), RNG.random(shape)):
        loaded = load_arrays(tmp_path, images=images, labels=LABELS)
        assert loaded.input_shape == expected
        assert loaded.train.inputs.dtype == (torch.uint8 if images.dtype == np.uint8 else torch.float32)
        assert loaded.mean == loaded.std == (0.5,) * expected[0]


TRAIN = [("x_train", "y_train"), ("train_images", "train_labels"), ("images", "labels")]
TEST = [("x_test", "y_test"), ("test_images", "test_labels")]
PARTS = {"train": (pixels(10, 6, 5), LABELS), "test": (pixels(4, 6, 5), np.array([2, 0, 1, 2]))}


@pytest.mark.parametrize("test", TEST)
@pytest.mark.parametrize("train", TRAIN)
def test_any_training_pair_goes_with_any_test_pair(
    tmp_path: Path, train: tuple[str, str], test: tuple[str, str]
) -> None:
    arrays = dict(zip((*train, *test), (*PARTS["train"], *PARTS["test"]), strict=True))
    loaded = load_arrays(tmp_path, **arrays)
    assert torch.equal(loaded.train.inputs[:, 0], torch.from_numpy(PARTS["train"][0]))
    assert torch.equal(loaded.test.inputs[:, 0], torch.from_numpy(PARTS["test"][0]))
    assert loaded.test.labels.tolist() == [2, 0, 1, 2]


def test_a_validation_part_beside_a_test_part_is_left_alone(tmp_path: Path) -> None:
    """As in MedMNIST."""
    keys = ("train_images", "train_labels", "test_images", "test_labels", "val_images", "val_labels")
    values = (*PARTS["train"], *PARTS["test"], pixels(10, 6, 5), LABELS)
    loaded = load_arrays(tmp_path, **dict(zip(keys, values, strict=True)))
    assert (len(loaded.train), len(loaded.test)) == (10, 4)


def test_what_is_no_sample_and_no_label_may_stand_beside_them(tmp_path: Path) -> None:
    more = {"files": np.array(list("abcdefghij")), "mean": np.array(0.5), "classes": np.array([0, 1, 2])}
    assert len(load_arrays(tmp_path, images=pixels(10, 6, 5), labels=LABELS, **more).train) == 7
    assert len(load_arrays(tmp_path, images=pixels(10, 6, 5), labels=LABELS, odd=np.array([None] * 10)).train) == 7


UNREAD = [
    ({"X_test": pixels(4, 6, 5), "Y_test": LABELS[:4]}, "it also holds X_test, Y_test, which may be samples or labels"),
    ({"more": pixels(3, 6, 5)}, "it also holds more, which may be samples or labels and would not be read; take"),
    ({"y": LABELS}, r"it also holds y, which may be .* out of the file .read are x_train, y_train, x_test, y_test"),
    ({"groups": LABELS[:4] * 0.5}, "it also holds groups, "),  # as long as the test part
    ({"images": pixels(10, 6, 5)}, "it also holds images, "),
    ({"images": pixels(10, 6, 5), "labels": LABELS},
     "it holds x_train, y_train, images, labels: several training parts, of which one can be used; leave one"),
    ({"test_images": pixels(4, 6, 5)}, "it holds x_test, y_test, test_images: several test parts, of which one can be"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "message"), UNREAD)
def test_samples_that_nobody_would_read_are_refused(tmp_path: Path, more: dict[str, np.ndarray], message: str) -> None:
    whole = dict(zip((*TRAIN[0], *TEST[0]), (*PARTS["train"], *PARTS["test"]), strict=True))
    with pytest.raises(ValueError, match=r"own\.npz: " + message):
        load_arrays(tmp_path, **whole, **more)


def test_a_validation_part_alone_is_no_test_part(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="it holds x_val, y_val but no test part: name it x_test, y_test to test on it"
    ):
        load_arrays(tmp_path, images=pixels(10, 6, 5), labels=LABELS, x_val=pixels(4, 6, 5), y_val=LABELS[:4])


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_32_bits_are_a_sentence_alone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"vectors hold numbers beyond 3\.4e38, the largest of 32 bits"):
        load_arrays(tmp_path, images=np.full((10, 4), 1e300), labels=LABELS)
    with pytest.raises(ValueError, match=r"float images must lie in \[0, 1\]"):
        load_arrays(tmp_path, images=np.full((10, 4, 4), 1e300), labels=LABELS)


def test_channels_last_keeps_the_pixels(tmp_path: Path) -> None:
    images = pixels(10, 6, 5, 3)
    loaded = load_arrays(tmp_path, x_train=images, y_train=LABELS, x_test=images, y_test=LABELS)
    assert loaded.train.inputs[7, 2, 4, 1] == images[7, 4, 1, 2]


def test_vectors(tmp_path: Path) -> None:
    vectors = RNG.normal(size=(10, 7))
    loaded = load_arrays(tmp_path, x_train=vectors, y_train=LABELS, x_test=vectors, y_test=LABELS)
    assert (loaded.input_shape, loaded.mean, loaded.std) == ((7,), (0.0,), (1.0,))
    assert torch.equal(loaded.train.inputs, torch.from_numpy(vectors.astype(np.float32)))


@pytest.mark.parametrize(("largest", "warned"), [(255, True), (7, False)])
def test_pixels_given_as_vectors_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, largest: int, warned: bool
) -> None:
    load_arrays(tmp_path, images=np.full((10, 4), largest, np.uint8), labels=LABELS)
    said = [record.getMessage() for record in caplog.records]
    assert any("whole numbers up to 255" in line and "divide them by 255" in line for line in said) == warned


def test_pictures_of_zeros_and_ones_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for factor, warned in ((255, False), (1, True)):
        load_arrays(tmp_path, images=pixels(10, 4, 4) % 2 * np.uint8(factor), labels=LABELS)
        assert ("own.npz: images holds pictures of bytes 0 and 1, where 255 is white" in caplog.text) == warned


def test_a_column_of_labels_is_a_list_of_labels(tmp_path: Path) -> None:
    loaded = load_arrays(tmp_path, images=pixels(10, 4, 4), labels=LABELS[:, None].astype(np.uint8))
    assert loaded.train.labels.dtype == torch.int64 and loaded.num_classes == 3


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": pixels(10, 4, 4)}, "it needs x_train, y_train"),
        ({f"arr_{i}": LABELS for i in range(12)}, "it holds arr_0, .*, arr_9 and 2 more; it needs x_train"),
        ({"data": LABELS}, "holds data; it needs"),
        ({"images": pixels(10, 4, 4), "labels": LABELS - 1}, "smallest is -1"),
        ({"images": pixels(10, 4, 4), "labels": LABELS * 1.0}, "labels must be whole numbers"),
        ({"images": pixels(10, 4, 4), "labels": np.array(list("abcabcabca"))}, "labels must be whole numbers"),
        ({"images": pixels(10, 4, 4), "labels": np.eye(10, 3, dtype=int)}, "labels must be whole numbers"),
        ({"images": pixels(9, 4, 4), "labels": LABELS}, "images has 9 samples but labels has 10"),
        ({"images": pixels(0, 4, 4), "labels": LABELS[:0]}, "at least one sample"),
        ({"images": np.zeros((10, 0)), "labels": LABELS}, r"at least one number, got inputs of shape \[10, 0\]"),
        ({"images": pixels(10, 0, 4), "labels": LABELS}, r"at least one number, got inputs of shape \[10, 1, 0, 4\]"),
        ({"images": pixels(10, 4, 0, 3), "labels": LABELS}, r"got inputs of shape \[10, 3, 4, 0\]"),
        ({"images": pixels(10, 4, 4, 4), "labels": LABELS}, "1 or 3 channels"),
        ({"images": pixels(10, 4, 4).astype(np.int32), "labels": LABELS}, "images must be uint8 or floats"),
        ({"images": pixels(10, 4, 4) * 1.0, "labels": LABELS}, r"float images must lie in \[0, 1\]"),
        ({"images": np.full((10, 4, 4), np.nan), "labels": LABELS}, r"float images must lie in \[0, 1\]"),
        ({"images": np.full((10, 4), np.inf), "labels": LABELS}, "finite"),
        ({"images": LABELS * 0.1, "labels": LABELS}, r"got \[10\]"),
        ({"x_train": pixels(10, 4, 4), "y_train": LABELS, "x_test": pixels(2, 4, 4)}, "x_test but not y_test"),
        ({"x_train": pixels(10, 4, 4), "y_train": LABELS, "y_test": LABELS[:2]}, "holds y_test but not x_test; give"),
        ({"x_train": pixels(10, 4, 4), "y_train": LABELS, "x_test": pixels(2, 5, 4), "y_test": LABELS[:2]},
         "must agree"),
        ({"images": pixels(10, 4, 4), "labels": LABELS * 5_000_000},
         "a label is 10000000, which is no class id; number the classes from 0 without a gap"),
        ({"images": pixels(10, 4, 4), "labels": LABELS * 2},
         "no training sample has the label 1, of 5 classes; add some, number the labels anew without a gap, or"),
        ({"images": pixels(10, 4, 4), "labels": LABELS + 1}, "no training sample has the label 0, of 4 classes"),
        ({"x_train": pixels(10, 4, 4), "y_train": LABELS, "x_test": pixels(2, 4, 4), "y_test": np.array([3, 0])},
         "no training sample has the label 3, of 4 classes"),
        ({"images": pixels(10, 4, 4), "labels": LABELS, "x_test": pixels(0, 4, 4), "y_test": np.array([])},
         r"own\.npz: x_test and y_test hold no samples; leave both out of the file$"),
        ({"images": np.array(5), "labels": LABELS}, "images is a single number"),
        ({"images": np.array([None] * 10), "labels": LABELS},
         r"own\.npz: images is .*Python objects, which are never loaded"),
    ],
)  # fmt: skip
def test_refusals_name_the_file(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_arrays(tmp_path, **arrays)
    assert str(tmp_path / "own.npz") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_declared_classes_may_have_no_sample(tmp_path: Path) -> None:
    file = tmp_path / "own.npz"
    np.savez(file, x_train=pixels(10, 4, 4), y_train=LABELS * 2, x_test=pixels(2, 4, 4), y_test=np.array([1, 5]))
    assert load(DataSource(name="npz", path=str(file), classes="6")).num_classes == 6


def npy(shape: tuple[int, ...]) -> bytes:
    """An .npy file of bytes that says it has this shape, and has nothing."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return content.getvalue()


HOSTILE = [
    (b"no array", "images is no NumPy array"),
    (npy((10**7, 10**4, 10**4)), "images is larger than the memory"),
    (b"\x93NUMPY\x01\x00\x10\x00{'descr': [[[[[[", "damaged"),
    (npy((-1, 4, 4)), "negative dimensions"),
]


@pytest.mark.parametrize(("content", "message"), HOSTILE)
def test_what_is_no_array_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "own.npz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("labels.npy" if content.startswith(b"\x93") else "labels", npy((0,)))
        archive.writestr("images.npy" if content.startswith(b"\x93") else "images", content)
    with pytest.raises(ValueError, match=message) as caught:
        load(DataSource(name="npz", path=str(file)))
    assert str(file) in str(caught.value)


def test_an_archive_that_is_encrypted_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.npz"
    np.savez(file, images=pixels(10, 4, 4), labels=LABELS)
    content = bytearray(file.read_bytes())
    for start in (content.find(b"PK\x03\x04") + 6, content.find(b"PK\x01\x02") + 8):
        content[start] |= 1  # the flag of the first file
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"own\.npz is damaged or truncated \(File .* is encrypted"):
        load(DataSource(name="npz", path=str(file)))


def test_missing_damaged_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'npz' needs data\.path"):
        load(DataSource(name="npz"))
    with pytest.raises(FileNotFoundError, match=r"data\.path = .*none\.npz' does not exist"):
        load(DataSource(name="npz", path=str(tmp_path / "none.npz")))
    with pytest.raises(ValueError, match=r"is a folder, data\.name = .npz. reads one \.npz file"):
        load(DataSource(name="npz", path=str(tmp_path)))
    np.save(tmp_path / "single.npy", LABELS)
    with pytest.raises(ValueError, match=r"single\.npy is a single array, a \.npz archive is needed"):
        load(DataSource(name="npz", path=str(tmp_path / "single.npy")))
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ValueError, match=r"text\.npz is damaged"):
        load(DataSource(name="npz", path=str(tmp_path / "text.npz")))


@pytest.mark.parametrize("compressed", [False, True])
def test_any_truncation_is_refused(tmp_path: Path, compressed: bool) -> None:
    whole = tmp_path / "whole.npz"
    (np.savez_compressed if compressed else np.savez)(whole, images=pixels(10, 8, 8), labels=LABELS)
    content = whole.read_bytes()
    for share in (0.0, 0.01, 0.3, 0.6, 0.9, 0.99):
        file = tmp_path / "cut.npz"
        file.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ValueError, match=r"cut\.npz is damaged"):
            load(DataSource(name="npz", path=str(file)))


def test_a_flipped_byte_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.npz"
    np.savez(file, images=pixels(10, 8, 8), labels=LABELS)
    content = bytearray(file.read_bytes())
    content[300] ^= 255  # inside the pixels: the archive's checksum no longer fits
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"own\.npz is damaged"):
        load(DataSource(name="npz", path=str(file)))
