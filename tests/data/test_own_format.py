"""Own data whose classes and shape are declared: what fits is read so, anything else is refused by name."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fedhpro_flwr.data import DataSource, load
from fedhpro_flwr.data.own_format import OWN_FORMATS, OwnSamples


def npz(path: Path, labels: list[int], size: int = 4) -> str:
    np.savez(path, images=np.zeros((len(labels), size, size), np.uint8), labels=np.array(labels))
    return str(path)


def picture_folder(path: Path, *names: str, colour: bool = False) -> str:
    for number, name in enumerate(names):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((4, 4, 3) if colour else (4, 4), number, np.uint8)
        if colour:
            pixels[0, 0] = 10, 20, 30
        Image.fromarray(pixels).save(path / name)
    return str(path)


def read(name: str, path: str, **options: object) -> OwnSamples:
    return OWN_FORMATS[name](DataSource(name=name, path=path, **options))  # type: ignore[arg-type]


def test_npz_labels_are_places_in_the_declared_list(tmp_path: Path) -> None:
    found = read("npz", npz(tmp_path / "a.npz", [2, 0, 2]), classes="cat, dog, fox, owl")
    assert found.class_names == ("cat", "dog", "fox", "owl") and found.train.labels.tolist() == [2, 0, 2]
    with pytest.raises(ValueError, match=r"a\.npz: a label is 2, but data\.classes declares 2 classes, 0 to 1"):
        read("npz", str(tmp_path / "a.npz"), classes="cat, dog")
    with pytest.raises(ValueError, match=r"is a folder, data\.name = 'npz' reads one \.npz file"):
        read("npz", str(tmp_path))


def test_class_folders_have_the_ids_of_the_declared_list(tmp_path: Path) -> None:
    path = picture_folder(tmp_path / "a", "fox/1.png", "fox/2.png", "cat/1.png")
    found = read("image-folder", path, classes="owl, fox, dog, cat")
    assert found.class_names == ("owl", "fox", "dog", "cat") and found.train.labels.tolist() == [3, 1, 1]
    with pytest.raises(ValueError, match=r"a: the class folder fox is none of data\.classes"):
        read("image-folder", path, classes="cat, dog")


def test_a_declared_class_may_be_in_the_test_part_alone(tmp_path: Path) -> None:
    path = picture_folder(tmp_path / "a", "train/cat/1.png", "test/dog/1.png", "test/cat/1.png")
    found = read("image-folder", path, classes="cat, dog")
    assert found.train.labels.tolist() == [0] and found.test is not None and found.test.labels.tolist() == [0, 1]


@pytest.mark.parametrize("name", ["npz", "image-folder", "text-csv"])
def test_a_test_part_alone_is_tested_on_and_not_trained_on(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    if name == "npz":
        path = tmp_path / "a.npz"
        np.savez(path, x_test=np.zeros((2, 4, 4), np.uint8), y_test=np.array([0, 2]))
    elif name == "image-folder":
        picture_folder(path, "Test/cat/1.png", "Test/fox/1.png")
    else:
        path.mkdir()
        (path / "test.csv").write_text("label,text\ncat,purrs\nfox,barks\n")
    source = DataSource(name=name, path=str(path), classes="cat, dog, fox")
    found = OWN_FORMATS[name](source)
    assert found.train is None and found.test is not None and found.test.labels.tolist() == [0, 2]
    assert found.class_names == ("cat", "dog", "fox")
    for trained in (found.parts, found.data_set):
        with pytest.raises(ValueError, match=rf"{path} holds a test part alone; add samples to train on$"):
            trained(source)


def test_labels_of_a_csv_are_declared_names(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("label,text\n7,seven\n3,three\n")
    found = read("text-csv", str(file), classes="10")
    assert found.train.labels.tolist() == [7, 3] and len(found.class_names) == 10
    with pytest.raises(ValueError, match=r"a\.csv, line 2: the label '7' is none of data\.classes"):
        read("text-csv", str(file), classes="5")
    file.write_text("label,text\nspam,one class is enough\n")
    assert read("text-csv", str(file), classes="ham, spam").train.labels.tolist() == [1]


def test_grey_pictures_get_three_channels_where_they_are_declared(tmp_path: Path) -> None:
    path = picture_folder(tmp_path / "grey", "cat/1.png", "dog/1.png")
    grey, colour = (read("image-folder", path, input_shape=shape).train.inputs for shape in ("", "3x4x4"))
    assert grey.shape == (2, 1, 4, 4) and torch.equal(colour, grey.expand(2, 3, 4, 4))


def test_another_shape_than_declared_is_refused(tmp_path: Path) -> None:
    path = picture_folder(tmp_path / "a", "cat/1.png", "cat/2.png", colour=True)
    with pytest.raises(ValueError, match=r"a holds samples of shape 3x4x4, but data\.input-shape = '1x4x4'"):
        read("image-folder", path).parts(DataSource(name="image-folder", path=path, input_shape="1x4x4"))
    with pytest.raises(ValueError, match=r"shape 1x4x4, but data\.input-shape = '16'"):
        load(DataSource(name="npz", path=npz(tmp_path / "a.npz", [0, 1] * 5), input_shape="16"))


def test_public_sets_have_their_own_classes() -> None:
    with pytest.raises(ValueError, match=r"data\.classes = 'a, b': data set 'digits' does not use it"):
        load(DataSource(name="digits", classes="a, b"))


def test_a_client_with_too_little_to_test_on_trains_on_all_of_it(tmp_path: Path) -> None:
    source = DataSource(name="npz", path=npz(tmp_path / "a.npz", [0, 1, 1]), classes="3")
    train, test = OWN_FORMATS["npz"](source).parts(source)
    assert train.labels.tolist() == [0, 1, 1] and test is None
    with pytest.raises(ValueError, match="leaves no test sample"):
        load(source)


def test_a_client_tests_on_its_share_the_same_every_time(tmp_path: Path) -> None:
    source = DataSource(name="npz", path=npz(tmp_path / "a.npz", [0] * 10 + [2] * 5), classes="3", test_share=0.2)
    train, test = OWN_FORMATS["npz"](source).parts(source)
    assert test is not None and test.labels.tolist() == [0, 0, 2] and len(train) == 12
    assert torch.equal(load(source).test.inputs, test.inputs)  # as a data set that a run divides


def test_pictures_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fedhpro_flwr.data import image_folder

    decoded: list[int] = []
    decode = image_folder.decode
    monkeypatch.setattr(
        image_folder,
        "decode",
        lambda pictures, names, **how: decoded.append(len(names)) or decode(pictures, names, **how),
    )
    path = picture_folder(tmp_path / "a", "cat/1.png", "dog/1.png")
    first, again = (read("image-folder", path).train for _ in range(2))
    assert torch.equal(first.inputs, again.inputs) and decoded == [2]
    picture_folder(tmp_path / "a", "cat/1.png", "dog/1.png", "fox/1.png")
    assert len(read("image-folder", path).train) == 3 and decoded == [2, 3]
    assert len(list((tmp_path / ".fedhpro-features").iterdir())) == 1  # what was kept of the folder as it was is gone


def test_a_class_folder_whose_name_is_no_utf8_is_refused(tmp_path: Path) -> None:
    for name in (b"caf\xe9", b"dog"):
        picture_folder(tmp_path / os.fsdecode(name), *(f"{number}.png" for number in range(5)))
    message = re.escape(
        f"{tmp_path}: data set 'image-folder': a class or domain is called 'caf\\udce9', which is no UTF-8 text"
    )
    with pytest.raises(ValueError, match=message):
        load(DataSource(name="image-folder", path=str(tmp_path)))


def test_classes_that_differ_by_capital_letters_alone_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Unless they are declared."""
    path = tmp_path / "mails.csv"
    path.write_text(
        "label,text\n" + "".join(f"{label},text {i}\n" for i in range(4) for label in ("Spam", "ham", "spam"))
    )
    load(DataSource(name="text-csv", path=str(path), classes="Spam, spam, ham"))
    assert caplog.messages == []
    load(DataSource(name="text-csv", path=str(path)))
    assert caplog.messages == [
        f"{path}: the classes 'Spam' and 'spam' differ by capital letters or spaces alone and are trained as two; if "
        "they are one, rename one of them"
    ]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("npz", "x.npz"),
        ("image-folder", "x.zip"),
        ("text-csv", "x.csv"),
        ("text-csv", "train.csv"),
        ("text-csv", "test.csv"),
    ],
)
def test_a_pipe_or_a_device_is_not_waited_for(tmp_path: Path, name: str, file: str) -> None:
    (tmp_path / "train.csv").write_text("label,text\na,one\nb,two\n")
    place = tmp_path / file
    for make in (lambda: os.mkfifo(place), lambda: place.symlink_to("/dev/null")):
        place.unlink(missing_ok=True)
        make()
        with pytest.raises(ValueError) as caught:
            read(name, str(place if file.startswith("x") else tmp_path))
        assert str(caught.value) == f"{place} is a pipe or a device, no {place.suffix} file"
