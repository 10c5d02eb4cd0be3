"""`fedhpro predict`: what it writes, what it refuses, and that one bad input does not cost the others."""

import csv
import json
import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image
from predicting import predict

from fedhpro_flwr.cli import main
from fedhpro_flwr.exported.description import model_bytes, read_model
from fedhpro_flwr.exported.output import output

pytestmark = pytest.mark.usefixtures("one_thread")


def test_npz_with_labels_tells_the_runs_accuracy(digits, capfd):
    status, rows, told = predict(capfd, digits.folder, digits.npz())
    assert status == 0 and rows[0] == ["input", "class", "probability"] and len(rows) == 1 + len(digits.test)
    hits = [row[1] == str(int(label)) for row, label in zip(rows[1:], digits.test.labels, strict=True)]
    accuracy = digits.tested["accuracy"]
    assert sum(hits) / len(hits) == accuracy
    assert told == f"accuracy {100 * accuracy:.2f} %: {sum(hits)} of {len(hits)} samples with a label\n"


def pictures(digits, folder, count=4):
    folder.mkdir()
    for i in range(count):
        Image.fromarray(digits.test.inputs[i, 0].numpy()).save(folder / f"{i}.png")
    return folder


def test_files_of_a_folder_that_are_no_pictures_are_told(digits, tmp_path, capfd):
    folder = pictures(digits, tmp_path / "in")
    (folder / "notes.txt").touch()
    status, rows, told = predict(capfd, digits.folder, folder)
    assert (status, len(rows)) == (1, 1 + 4)
    assert f"{folder}: 1 file is left out, no picture by the ending, as notes.txt" in told


def test_pictures_behind_a_link_to_a_folder_are_predicted(digits, tmp_path, capfd):
    linked, folder = pictures(digits, tmp_path / "elsewhere"), pictures(digits, tmp_path / "in", 1)
    (folder / "more").symlink_to(linked)
    status, rows, told = predict(capfd, digits.folder, folder)
    names = ["0.png", "more/0.png", "more/1.png", "more/2.png", "more/3.png"]
    assert (status, told, [row[0] for row in rows[1:]]) == (0, "", [str(folder / name) for name in names])


def test_pictures_are_predicted_as_their_pixels_whatever_their_colours(digits, tmp_path, capfd):
    folder = pictures(digits, tmp_path / "in")
    _, expected, _ = predict(capfd, digits.folder, digits.npz())
    status, rows, told = predict(capfd, digits.folder, folder)
    assert (status, told) == (0, "")
    assert [row[1:] for row in rows] == [row[1:] for row in expected[:5]]
    assert [row[0] for row in rows[1:]] == [str(folder / f"{i}.png") for i in range(4)]
    with Image.open(folder / "0.png") as image:
        image.convert("RGBA").resize((16, 16), Image.Resampling.NEAREST).save(tmp_path / "large.png")
    assert predict(capfd, digits.folder, tmp_path / "large.png")[1][1][1] == expected[1][1]


def test_a_bad_picture_among_good_ones_is_named_and_the_rest_is_written(digits, tmp_path, capfd):
    folder = pictures(digits, tmp_path / "in")
    (folder / "2.png").write_bytes(b"nothing")
    status, rows, told = predict(capfd, digits.folder, folder, folder / "0.png")
    assert status == 1 and [row[0][-5:] for row in rows[1:]] == ["0.png", "1.png", "3.png", "0.png"]
    assert f"fedhpro: {folder}/2.png is damaged, truncated or no picture (its format is unknown)\n" in told
    assert told.endswith("fedhpro: 4 predicted, the above left out\n")


def test_a_bad_picture_of_this_folder_is_called_by_its_name(digits, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.png").write_bytes(b"nothing")
    told = predict(capfd, digits.folder, "bad.png")[2]
    assert told.startswith("fedhpro: bad.png is damaged, truncated or no picture (its format is unknown)\n")


def test_a_pipe_is_left_out_named_or_in_a_folder(digits, tmp_path, capfd):
    folder = pictures(digits, tmp_path / "in", 1)
    os.mkfifo(folder / "pipe.png")
    status, rows, told = predict(capfd, digits.folder, folder / "pipe.png", folder)
    assert (status, [row[0] for row in rows[1:]]) == (1, [str(folder / "0.png")])
    said = f"fedhpro: {folder}/pipe.png is damaged, truncated or no picture (it is a pipe or a device)\n"
    assert told == 2 * said + "fedhpro: 1 predicted, the above left out\n"


def test_top_and_files(digits, tmp_path, capfd):
    folder = pictures(digits, tmp_path / "in")
    _, rows, _ = predict(capfd, digits.folder, folder, "--top", 3)
    assert rows[0] == ["input", "class", "probability", "class-2", "probability-2", "class-3", "probability-3"]
    shares = [[float(share) for share in row[2::2]] for row in rows[1:]]
    assert all(row == sorted(row, reverse=True) for row in shares)
    for name in ("out.csv", "out.jsonl"):
        assert predict(capfd, digits.folder, folder, "--top", 99, "--out", tmp_path / name)[:2] == (0, [])
    written = list(csv.reader((tmp_path / "out.csv").read_text().splitlines()))
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row[:7] for row in written] == rows and len(written[0]) == 1 + 2 * 10
    for line, row in zip(lines, written[1:], strict=True):
        assert line["input"] == row[0] and [each["class"] for each in line["classes"]] == row[1::2]
        assert sum(each["probability"] for each in line["classes"]) == pytest.approx(1, abs=1e-5)


def test_a_picture_whose_name_is_no_utf8_is_predicted_under_its_name(digits, tmp_path):
    folder = pictures(digits, tmp_path / "in", 1)
    name = os.fsencode(folder) + b"/\xff.png"
    os.rename(folder / "0.png", name)
    command = [sys.executable, "-m", "fedhpro_flwr.cli", "predict", digits.folder, folder]
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}  # as most terminals are
    done = subprocess.run(command, env=strict, capture_output=True, check=True)
    assert done.stdout.splitlines()[1].startswith(name + b",")
    assert main(["predict", str(digits.folder), str(folder), "--out", str(tmp_path / "o.csv")]) == 0
    assert (tmp_path / "o.csv").read_bytes() == done.stdout
    assert main(["predict", str(digits.folder), str(folder), "--out", str(tmp_path / "o.jsonl")]) == 0
    assert os.fsencode(json.loads((tmp_path / "o.jsonl").read_text(encoding="utf-8"))["input"]) == name


def test_an_input_is_never_written_over(vectors, tmp_path, capfd):
    (tmp_path / "in.csv").write_text("1,2,3,4,5,6\n")
    status, rows, told = predict(capfd, vectors.folder, tmp_path / "in.csv", "--out", tmp_path / "in.csv")
    assert (status, rows) == (2, []) and "in.csv is one of the inputs; name another file" in told
    assert (tmp_path / "in.csv").read_text() == "1,2,3,4,5,6\n"


def test_what_is_no_array_does_not_cost_the_others(digits, tmp_path, capfd):
    for name, content in (("text.npz", b"words"), ("cut.npz", b"\x93NUMPY\x01\x00\x10\x00{'descr': [[[[[[")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("x.npy" if content.startswith(b"\x93") else "x", content)
        status, rows, told = predict(capfd, digits.folder, tmp_path / name, digits.npz())
        assert status == 1 and len(rows) == 1 + len(digits.test) and f"fedhpro: {tmp_path / name}" in told


def test_pictures_of_zeros_and_ones_are_warned_of_as_in_training(digits, tmp_path, capfd, caplog):
    for factor in (255, 1):
        assert caplog.messages == []
        np.savez(tmp_path / "bits.npz", x=np.eye(8, dtype=np.uint8)[None] * np.uint8(factor))
        assert predict(capfd, digits.folder, tmp_path / "bits.npz")[0] == 0
    assert caplog.messages == [
        f"{tmp_path / 'bits.npz'}: x holds pictures of bytes 0 and 1, where 255 is white: they are as good as black, "
        "and models hardly learn from such; multiply them by 255"
    ]


ARRAYS = [
    ({"x": np.zeros((2, 9, 9), np.uint8)}, "its samples have shape [1, 9, 9], the model takes [1, 8, 8]: grey images"),
    ({"x": np.zeros((2, 8, 8, 3), np.uint8)}, "its samples have shape [3, 8, 8], the model takes [1, 8, 8]"),
    ({"x": np.zeros((2, 64))}, "its samples have shape [64], the model takes [1, 8, 8]"),
    ({"x": np.full((2, 8, 8), 2.0)}, "float images must lie in [0, 1]"),
    ({"x": np.zeros((0, 8, 8), np.uint8)}, "it holds no sample"),
    ({"pixels": np.zeros(3)}, "it holds pixels, an array x or images or x_test or test_images is needed"),
    (
        {"x": np.zeros(3), "images": np.zeros(3)},
        "it holds x and images, and which is to be predicted is not said; leave",
    ),
    ({"x": np.zeros(3), "x_test": np.zeros(3)}, "it holds x and x_test, and which is to be predicted is not said"),
    (
        {"test_images": np.zeros(3), "x_test": np.zeros(3), "images": np.zeros(3)},
        "it holds x_test and test_images, and",
    ),
    (
        {"x": np.zeros(3), "y": np.zeros(3), "labels": np.zeros(3)},
        "it holds y and labels, either may label x; leave one",
    ),
    ({"x": np.zeros((2, 8, 8), np.uint8), "y": [0, 10]}, "its labels must lie in 0 to 9, the model's classes"),
    ({"x": np.zeros((2, 8, 8), np.uint8), "y": [-1, 0]}, "its labels must lie in 0 to 9, the model's classes"),
    ({"x": np.zeros((2, 8, 8), np.uint8), "y": [0]}, "its labels must be 2 whole numbers, they are int64 [1]"),
    ({"x": np.zeros((2, 8, 8), np.uint8), "y": [0.5, 1]}, "its labels must be 2 whole numbers, they are float64 [2]"),
    ({"x": np.array([{}, {}])}, "Object arrays cannot be loaded"),
]


@pytest.mark.parametrize(("arrays", "sentence"), ARRAYS, ids=[case[1][:30] for case in ARRAYS])
def test_arrays_of_another_kind_are_a_sentence(arrays, sentence, digits, tmp_path, capfd):
    np.savez(tmp_path / "a.npz", **arrays)
    status, _, told = predict(capfd, digits.folder, tmp_path / "a.npz")
    assert status == 1 and f"{tmp_path / 'a.npz'}: " in told and sentence in told


@pytest.mark.parametrize("test", [("test_images", "test_labels"), ("x_test", "y_test"), ("x_test", "test_labels")])
@pytest.mark.parametrize("train", [("images", "labels"), ("x_train", "y_train"), ("train_images", "train_labels")])
def test_of_a_file_with_a_test_part_that_is_predicted_and_no_training_sample(train, test, digits, tmp_path, capfd):
    arrays = {train[0]: np.zeros((50, 8, 8), np.uint8), train[1]: np.arange(50) % 10}
    arrays |= {test[0]: digits.test.inputs.numpy(), test[1]: digits.test.labels.numpy()}
    np.savez(tmp_path / "mine.npz", **arrays)
    status, rows, told = predict(capfd, digits.folder, tmp_path / "mine.npz")
    assert (status, len(rows)) == (0, 1 + len(digits.test))
    assert told.startswith(f"accuracy {100 * digits.tested['accuracy']:.2f} %: ")
    np.savez(tmp_path / "mine.npz", **{name: array for name, array in arrays.items() if name != test[1]})
    assert predict(capfd, digits.folder, tmp_path / "mine.npz")[1:] == (rows, "")  # no labels, no accuracy


@pytest.mark.parametrize("keys", [("x", "y"), ("x", "labels"), ("images", "labels"), ("images", "y")])
def test_samples_and_their_labels_have_either_name(keys, digits, tmp_path, capfd):
    samples, labels = digits.test.inputs.numpy(), digits.test.labels.numpy()
    np.savez(tmp_path / "mine.npz", **dict(zip(keys, (samples, labels), strict=True)))
    assert predict(capfd, digits.folder, tmp_path / "mine.npz")[2].startswith(
        f"accuracy {100 * digits.tested['accuracy']:.2f} %: "
    )


@pytest.mark.filterwarnings("error")
def test_vectors_beyond_32_bits_are_a_sentence_alone(vectors, tmp_path, capfd):
    np.savez(tmp_path / "a.npz", x=np.full((2, 6), 1e300))
    status, _, told = predict(capfd, vectors.folder, tmp_path / "a.npz")
    assert status == 1 and told.count("\n") == 2
    assert "a.npz: vectors hold numbers beyond 3.4e38, the largest of 32 bits; scale them\n" in told


@pytest.mark.parametrize("number", [np.nan, -np.inf])
def test_vectors_of_which_one_number_is_none_are_a_sentence(number, vectors, tmp_path, capfd):
    np.savez(tmp_path / "a.npz", x=np.where(np.eye(6) > 0, number, 1.0))
    status, rows, told = predict(capfd, vectors.folder, tmp_path / "a.npz")
    assert (status, len(rows)) == (1, 1) and "a.npz: it holds NaN or infinite numbers, only finite ones are" in told


MISTAKES = [
    (["--top", "0"], "--top 0: it must be between 1 and 2147483647"),
    (["/no/such.png"], "/no/such.png does not exist; name pictures"),
    (["--out", "x.txt"], "--out x.txt: name it .csv or .jsonl"),
    (["--out", "/no/such/x.csv"], "--out /no/such/x.csv: there is no folder /no/such"),
    (["--out", "/proc/x.csv"], "--out /proc/x.csv: no file can be written to /proc ("),
    (["--encoder", "/no/such"], "--encoder /no/such: this model needs none; leave it out"),
]


@pytest.mark.parametrize(("words", "sentence"), MISTAKES, ids=[case[0][0] for case in MISTAKES])
def test_a_mistake_ends_with_2_on_stderr_before_anything_is_written(words, sentence, digits, capfd):
    status, rows, told = predict(capfd, digits.folder, digits.npz(), *words)
    assert (status, rows) == (2, []) and told.startswith("fedhpro: ") and sentence in told and told.count("\n") == 1


def test_export_copies_says_what_it_is_and_refuses_to_write_over_itself(digits, tmp_path, capfd):
    out = tmp_path / "mine.safetensors"
    assert main(["export", str(digits.folder), "--out", str(out)]) == 0
    accuracy = f"{100 * digits.tested['accuracy']:.2f} % of the run's test data right"
    assert capfd.readouterr().out == (
        f"{out}: cnn, 10 classes, takes grey images of 8x8 pixels, averaged head, {accuracy}\n"
    )
    assert out.read_bytes() == (digits.folder / "model.safetensors").read_bytes()
    assert main(["export", str(out), "--out", str(out)]) == 2
    assert "is the model itself" in capfd.readouterr().err


def test_a_run_on_validation_data_does_not_call_it_test_data(run_of, tmp_path, capfd):
    run = run_of(tmp_path / "run", **{"data.validation-share": 0.2, "rounds": 1})
    said = json.loads((run.folder / "summary.json").read_text())
    assert (said["accuracy-of"], said["tested-on"]) == ("validation data", "validation data")
    capfd.readouterr()
    assert main(["export", str(run.folder)]) == 0
    accuracy = f"{100 * run.tested['accuracy']:.2f} % of the run's validation data right"
    assert capfd.readouterr().out.endswith(f", {accuracy}\n")


def test_control_characters_of_a_class_name_do_not_reach_the_terminal(vectors, tmp_path, capfd):
    described, tensors = read_model(vectors.folder / "model.safetensors")
    names = tuple(f"\x1b[2J{label}" for label in range(4))
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(model_bytes(tensors, described.model_copy(update={"class_names": names})))
    (tmp_path / "in.csv").write_text("1,2,3,4,5,6\n")
    status, rows, _ = predict(capfd, foreign, tmp_path / "in.csv")
    assert status == 0 and rows[1][1][:4] == "\ufffd[2J"
    assert predict(capfd, foreign, tmp_path / "in.csv", "--out", tmp_path / "o.csv")[0] == 0
    assert (tmp_path / "o.csv").read_text().splitlines()[1].split(",")[1] in names
    (tmp_path / "in.csv").write_text("label,a,b,c,d,e,f\nx,1,2,3,4,5,6\n")
    told = predict(capfd, foreign, tmp_path / "in.csv")[2]
    assert "none of the model's classes" in told and "\x1b" not in told


def test_control_characters_of_a_file_name_do_not_reach_the_terminal_and_do_reach_a_script(capfd, monkeypatch):
    def written():
        with output(None, 1) as write:
            write("a\x1b[2J\udcff.png", [("cat", 0.5)])
        return capfd.readouterr().out.splitlines()[1]

    assert written() == "a\x1b[2J\udcff.png,cat,0.500000"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert written() == "a\ufffd[2J\ufffd.png,cat,0.500000"


def test_a_pickle_is_no_npz_file_and_nobody_is_told_how_to_load_it(vectors, tmp_path, capfd):
    (tmp_path / "a.npz").write_bytes(pickle.dumps([1]))
    assert predict(capfd, vectors.folder, tmp_path / "a.npz")[::2] == (
        1,
        f"fedhpro: {tmp_path}/a.npz is damaged or no .npz file: its first bytes are not those of an archive\n"
        "fedhpro: 0 predicted, the above left out\n",
    )


def test_a_reader_that_ends_first_is_no_failure(vectors, tmp_path):
    (tmp_path / "in.csv").write_text("1,2,3,4,5,6\n" * 5000)  # more than a pipe holds
    command = [sys.executable, "-m", "fedhpro_flwr.cli", "predict", vectors.folder, tmp_path / "in.csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
