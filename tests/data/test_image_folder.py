"""The user's own pictures in a folder or a .zip."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from pictures import fill, png, zipped
from PIL import Image

from fedhpro_flwr.data import DataSource, load
from fedhpro_flwr.data.pictures import decode, open_pictures, unlisted


@pytest.fixture(params=["folder", "zip"])
def source_of(request: pytest.FixtureRequest, tmp_path: Path):
    def make(files: dict[str, bytes], **options: float) -> DataSource:
        folder = fill(tmp_path / "pictures", files)
        path = folder if request.param == "folder" else zipped(folder)
        return DataSource(name="image-folder", path=str(path), **options)

    return make


def test_classes_by_name_and_a_test_part_split_off(source_of) -> None:
    files = {f"{name}/{i}.png": png(10 * c + i) for c, name in enumerate(("ant", "bee")) for i in range(4)}
    source = source_of(files, test_share=0.25)
    loaded, again = load(source), load(source)
    assert loaded.class_names == ("ant", "bee")
    assert (len(loaded.train), len(loaded.test), loaded.input_shape) == (6, 2, (1, 5, 6))
    assert loaded.train.inputs.dtype == torch.uint8
    for split in (loaded.train, loaded.test):
        assert torch.equal(split.inputs[:, 0, 0, 0] // 10, split.labels)  # pictures keep their labels
    assert torch.equal(loaded.test.inputs, again.test.inputs)
    assert (loaded.mean, loaded.std) == ((0.5,), (0.5,))


def test_train_and_test_folders(source_of) -> None:
    files = {"train/b/1.png": png(1), "train/a/1.png": png(0), "train/a/2.PNG": png(0), "test/b/1.png": png(1)}
    files |= {"train/a/notes.txt": b"ignored", ".DS_Store": b"", "__MACOSX/train/a/._1.png": b""}
    loaded = load(source_of(files))
    assert loaded.class_names == ("a", "b")
    assert loaded.train.labels.tolist() == [0, 0, 1]
    assert loaded.test.labels.tolist() == [1]


def test_a_validation_part_is_left_alone_and_a_folder_around_everything_does_not_matter(source_of) -> None:
    files = {f"{part}/{name}/{part}.png": png(i) for part in ("train", "test") for i, name in enumerate("ab")}
    files |= {"val/c/1.png": png(), "valid/a/1.png": png(size=(9, 9))}
    loaded = load(source_of({f"pictures-v2/{name}": content for name, content in files.items()}))
    assert (loaded.class_names, loaded.train.labels.tolist(), loaded.test.labels.tolist()) == (
        ("a", "b"),
        [0, 1],
        [0, 1],
    )
    assert loaded.train.inputs[:, 0, 0, 0].tolist() == [0, 1]


def test_names_of_parts_as_others_write_them(source_of) -> None:
    loaded = load(source_of({"Training/a/1.png": png(), "Testing/a/2.png": png(1), "Valid/a/3.png": png()}))
    assert (len(loaded.train), loaded.test.inputs[:, 0, 0, 0].tolist()) == (1, [1])


def test_a_folder_around_the_classes_does_not_matter(source_of) -> None:
    files = {f"pictures/{name}/{i}.png": png(10 * c + i) for c, name in enumerate(("ant", "bee")) for i in range(4)}
    loaded = load(source_of(files, test_share=0.25))
    assert (loaded.class_names, len(loaded.train), len(loaded.test)) == (("ant", "bee"), 6, 2)
    assert torch.equal(loaded.train.inputs[:, 0, 0, 0] // 10, loaded.train.labels)


def test_a_declared_class_may_have_the_name_of_a_part(source_of) -> None:
    source = source_of({f"{name}/{i}.png": png(i) for name in ("train", "valid") for i in range(4)}, test_share=0.25)
    loaded = load(source.model_copy(update={"classes": "car, train, valid"}))
    assert loaded.train.labels.tolist() == [1, 1, 1, 2, 2, 2]


def test_one_colour_picture_makes_all_of_them_colour(source_of) -> None:
    files = {"train/a/1.png": png(7), "train/b/1.png": png(9, colour=True), "test/a/1.png": png(3)}
    loaded = load(source_of(files))
    assert loaded.input_shape == (3, 5, 6)
    assert loaded.train.inputs[:, :, 0, 0].tolist() == [[7, 7, 7], [9, 0, 255]]
    assert loaded.mean == (0.5,) * 3


# EXIF 2.32, 4.6.4 A: which corner of the scene the first row and the first column of what is stored are.


def test_pictures_of_several_sizes_are_resized(source_of) -> None:
    corner = np.zeros((4, 8), np.uint8)
    corner[:2, :4] = 200  # the upper left quarter
    buffer = io.BytesIO()
    Image.fromarray(corner).save(buffer, "PNG")
    files = {"train/a/1.png": buffer.getvalue(), "train/b/1.png": png(7, size=(9, 3)), "test/a/1.png": png(9)}
    loaded = load(source_of(files, image_size=4))
    assert (loaded.input_shape, loaded.train.inputs.dtype) == ((1, 4, 4), torch.uint8)
    assert loaded.train.inputs[0, 0, [0, 0, 3], [0, 3, 0]].tolist() == [200, 0, 0]  # neither turned nor mirrored
    assert loaded.train.inputs[1].unique().tolist() == [7]
    assert loaded.test.inputs.unique().tolist() == [9]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"train/a/1.png": png(), "test/a/2.png": png(size=(7, 5))},
            r"test/a/2\.png has 7x5 pixels and train/a/1\.png has 6x5; set data\.image-size",
        ),
        ({"train/a/1.png": png(), "test/a/2.png": png()[:40]}, r"test/a/2\.png is damaged"),
        ({"train/a/1.png": b"no picture", "test/a/2.png": png()}, r"a/1\.png is damaged, truncated or no picture"),
        ({"a/1.png": png(), "b/notes.txt": b""}, "the class folder b holds no pictures"),
        ({"1.png": png()}, "has no folders of classes"),
        ({"a/1.png": png(), "cover.png": png()}, "cover.png lies outside of the folders of classes"),
        ({"a/1.png": png(), "a/b/1.png": png(), "c/1.png": png()}, r"has no folders of classes: .*picture\.png$"),
        ({"train/1.png": png(), "test/1.png": png()}, "has no folders of classes"),
        ({"notes.txt": b""}, "has no folders of classes"),
        ({"train/a/1.png": png()}, r"has no folders of classes: .*picture\.png$"),
        ({"test/a/1.png": png()}, "has no folders of classes"),
        ({"a/b/c/1.png": png()}, r"has no folders of classes: .*; if b is a domain, name the folder b alone"),
        ({"train/1.png": png(), "val/1.png": png(), "test/1.png": png()}, "has no folders of classes"),
        (
            {"photo/cat/1.png": png(), "sketch/cat/1.png": png()},
            r"it needs class/picture\.png, .*; if photo is a domain, name the folder photo alone: only a data set that "
            "the run divides can have several, with data.name = 'domain-folder'$",
        ),
        ({"art/train/cat/1.png": png(), "web/train/cat/1.png": png()}, "if art is a domain, name the folder art alone"),
        ({"a/1.png": png(), "train/a/1.png": png(), "test/a/1.png": png()}, "has no folders of classes"),
        (
            {"train/a/1.png": png(), "val/a/1.png": png()},
            "train on and one to validate on; call the one to test on test",
        ),
        ({"val/a/1.png": png(), "b/1.png": png()}, "has no folders of classes"),
        (
            {"x/train/a/1.png": png(), "x/valid/a/1.png": png()},
            "train on and one to validate on; call the one to test on test",
        ),
        ({"train/a/1.png": png(), "test/b/1.png": png()}, "the class test/b is in the test part alone"),
        ({"a/1.png": png()}, "leaves no test sample"),
    ],
)
def test_refusals(source_of, files: dict[str, bytes], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load(source_of(files))
    assert "\n" not in str(caught.value)


def test_a_picture_that_is_too_large_is_not_called_damaged(source_of, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ValueError, match=r"a/\d\.png has more than 20 pixels; shrink it$"):
        load(source_of({"train/a/1.png": png(), "test/a/2.png": png()}))


def test_missing_empty_and_damaged_archives(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere' does not exist"):
        load(DataSource(name="image-folder", path=str(tmp_path / "nowhere")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no folders of classes"):
        load(DataSource(name="image-folder", path=str(tmp_path / "empty")))
    (tmp_path / "classes" / "a").mkdir(parents=True)
    with pytest.raises(ValueError, match="the class folder a holds no pictures"):
        load(DataSource(name="image-folder", path=str(tmp_path / "classes")))
    archive = zipped(fill(tmp_path / "whole", {f"a/{i}.png": png(i) for i in range(5)}))
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"whole\.zip is damaged, truncated or no \.zip file"):
        load(DataSource(name="image-folder", path=str(archive)))


def test_a_zip_without_folder_entries(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "flat.zip", "w") as archive:
        for name in ("train/x/0.png", "train/y/0.png", "test/x/0.png"):
            archive.writestr(name, png(4))
    loaded = load(DataSource(name="image-folder", path=str(tmp_path / "flat.zip")))
    assert (loaded.class_names, len(loaded.train), len(loaded.test)) == (("x", "y"), 2, 1)
    np.testing.assert_array_equal(loaded.train.inputs, np.full((2, 1, 5, 6), 4, np.uint8))


def test_a_zip_made_in_the_current_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "dots.zip", "w") as archive:
        archive.writestr("./", b"")
        for name in ("./train/x/0.png", "./test/x/0.png"):
            archive.writestr(name, png(5))
    assert load(DataSource(name="image-folder", path=str(tmp_path / "dots.zip"))).class_names == ("x",)


def test_a_zip_with_backslashes(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "windows.zip", "w") as archive:
        for part, count in (("train", 2), ("test", 1)):
            for c in range(2):
                archive.writestr(f"{part}\\{c}\\", b"")
                for i in range(count):
                    archive.writestr(f"{part}\\{c}\\{i}.png", png(100 * c + i))
    with open_pictures(tmp_path / "windows.zip") as pictures:
        assert (len(pictures.folders), pictures.left_out()) == (4, "")
    loaded = load(DataSource(name="image-folder", path=str(tmp_path / "windows.zip")))
    assert (loaded.class_names, loaded.train.labels.tolist()) == (("0", "1"), [0, 0, 1, 1])
    assert loaded.test.inputs[:, 0, 0, 0].tolist() == [0, 100]


def test_a_damaged_picture_inside_a_zip_is_named(tmp_path: Path) -> None:
    file = tmp_path / "bad.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("train/x/0.png", "test/x/0.png"):
            archive.writestr(name, png(4))
    content = bytearray(file.read_bytes())
    content[content.index(b"train/x/0.png") + 40] ^= 255  # inside the first picture: its checksum no longer fits
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.zip: train/x/0\.png is damaged"):
        load(DataSource(name="image-folder", path=str(file)))


def test_a_zip_does_not_unpack_to_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedhpro_flwr.data.pictures.LARGEST_FILE", 1000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/0.png", png(4) + bytes(1000))
    sentence = r"bomb\.zip: x/0\.png .* \(unpacked it has 1,\d+ bytes, at most 1,000 are read\)"
    with pytest.raises(ValueError, match=sentence):
        load(DataSource(name="image-folder", path=str(tmp_path / "bomb.zip")))


def test_more_pictures_than_fit_into_memory_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    with pytest.raises(ValueError, match=r"1000000 pictures of 3000x3000 pixels are larger than the memory") as refused:
        decode(unlisted(tmp_path), [PurePosixPath("a.png")] * 10**6, image_size=3000)
    assert "set data.image-size to a smaller side" in str(refused.value)


def test_class_folders_of_macos_are_the_classes_that_a_keyboard_types(source_of) -> None:
    files = {"train/cafe\u0301/1.png": png(1), "train/bar/1.png": png(0), "test/caf\u00e9/1.png": png(1)}
    source = source_of(files)
    for classes in ("", "bar, caf\u00e9"):
        loaded = load(source.model_copy(update={"classes": classes}))
        assert loaded.class_names == ("bar", "caf\u00e9")
        assert (loaded.train.labels.tolist(), loaded.test.labels.tolist()) == ([0, 1], [1])


def test_folders_of_classes_that_change_names_are_decoded_anew(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name, value in (("a", 1), ("b", 2)):
            file = tmp_path / "pictures" / part / name / "1.bmp"
            file.parent.mkdir(parents=True)
            Image.new("L", (6, 5), value).save(file)  # all of one size
            os.utime(file, (5, 5))
    source = DataSource(name="image-folder", path=str(tmp_path / "pictures"))
    assert load(source).train.inputs[:, 0, 0, 0].tolist() == [1, 2]
    train = tmp_path / "pictures" / "train"
    for old, new in (("a", "c"), ("b", "a"), ("c", "b")):
        (train / old).rename(train / new)
    loaded = load(source)
    assert (loaded.train.inputs[:, 0, 0, 0].tolist(), loaded.test.inputs[:, 0, 0, 0].tolist()) == ([2, 1], [1, 2])


def test_folders_behind_links_are_read_and_links_in_a_circle_end(tmp_path: Path) -> None:
    real = fill(tmp_path / "real", {f"{part}/b/{part}.png": png(1) for part in ("train", "test")})
    folder = fill(tmp_path / "pictures", {f"{part}/a/{part}.png": png(0) for part in ("train", "test")})
    for part in ("train", "test"):
        (folder / part / "b").symlink_to(real / part / "b")
    (folder / "train" / "again").symlink_to(folder)  # to the folder itself, and to a link that leads into the circle
    (real / "train" / "b" / "up").symlink_to(folder / "train")
    (folder / "train" / "self").symlink_to(folder / "train" / "self")
    (folder / ".hidden").symlink_to(real)
    with open_pictures(folder) as found:
        names = ["test/a/test.png", "test/b/test.png", "train/a/train.png", "train/b/train.png"]
        assert [str(name) for name in found.names] == names
        assert {str(name) for name in found.folders} == {"test", "test/a", "test/b", "train", "train/a", "train/b"}
    loaded = load(DataSource(name="image-folder", path=str(folder)))
    assert loaded.class_names == ("a", "b") and loaded.train.inputs[:, 0, 0, 0].tolist() == [0, 1]


def test_two_links_to_one_folder_are_two_folders(tmp_path: Path) -> None:
    fill(tmp_path / "real", {"0.png": png()})
    (tmp_path / "pictures").mkdir()
    for name in "ab":
        (tmp_path / "pictures" / name).symlink_to(tmp_path / "real")
    with open_pictures(tmp_path / "pictures") as found:
        assert [str(name) for name in found.names] == ["a/0.png", "b/0.png"]


def test_what_is_no_picture_by_its_ending_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = {f"{name}/{number}.png": png(number) for name in "ab" for number in range(6)}
    jpeg = io.BytesIO()
    Image.new("L", (6, 5), 9).save(jpeg, "JPEG")
    others = {"a/saved.jfif": jpeg.getvalue(), "a/notes.txt": b"", "b/.hidden": b"", "b/no-ending": png()}
    fill(tmp_path, files | others)
    with caplog.at_level("WARNING", "flwr"):
        found = load(DataSource(name="image-folder", path=str(tmp_path)))
    assert len(found.train) + len(found.test) == 13
    assert f"{tmp_path}: 2 files are left out, no picture by the ending, as a/notes.txt" in caplog.text
