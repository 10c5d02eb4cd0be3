"""What `fedhpro predict` was given, batch by batch, in the order in which it was named."""

import numpy as np
import pytest
from PIL import Image
from predicting import predict

from fedhpro_flwr import load_exported
from fedhpro_flwr.exported.inputs import batches

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def picture(digits, tmp_path):
    """Save test picture `i` under a name: `picture(3, "a.png")` -> its path."""

    def save(i, name):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(digits.test.inputs[i, 0].numpy()).save(tmp_path / name)
        return tmp_path / name

    return save


def test_batches_that_do_not_divide_the_samples_predict_each_of_them_with_its_own_label(digits, capfd):
    status, rows, told = predict(capfd, digits.folder, digits.npz(), "--batch-size", 100)
    assert (status, len(rows)) == (0, 1 + 359)
    _, whole, accuracy = predict(capfd, digits.folder, digits.npz())
    assert ([row[:2] for row in rows], told) == ([row[:2] for row in whole], accuracy)


def test_labels_in_a_column_are_the_same_labels(digits, tmp_path, capfd):
    np.savez(tmp_path / "a.npz", x=digits.test.inputs.numpy(), y=digits.test.labels.numpy()[:, None])
    assert predict(capfd, digits.folder, tmp_path / "a.npz")[2] == predict(capfd, digits.folder, digits.npz())[2]


def test_pictures_and_tables_are_predicted_in_the_order_in_which_they_are_named(digits, picture, tmp_path, capfd):
    np.savez(tmp_path / "two.npz", x=digits.test.inputs[1:3].numpy())
    named = [picture(0, "a.png"), tmp_path / "two.npz", picture(3, "b.png"), picture(4, "c.png")]
    status, rows, told = predict(capfd, digits.folder, *named)
    names = [named[0], f"{named[1]}:0", f"{named[1]}:1", *named[2:]]
    assert (status, told, [row[0] for row in rows[1:]]) == (0, "", list(map(str, names)))
    expected = load_exported(digits.folder).predict(digits.test.inputs[:5]).names
    assert [row[1] for row in rows[1:]] == expected


def test_pictures_of_successive_folders_share_batches(digits, picture, tmp_path):
    files = [
        picture(i, name) for i, name in enumerate(("one/a.png", "one/b.png", "one/c.png", "two/d.png", "two/e.png"))
    ]
    refused = []
    found = list(batches([tmp_path / "one", tmp_path / "two"], load_exported(digits.folder), 2, refused.append))
    assert refused == [] and [list(batch.names) for batch in found] == [
        list(map(str, part)) for part in (files[:2], files[2:4], files[4:])
    ]
    assert np.array_equal(np.concatenate([batch.inputs.numpy() for batch in found]), digits.test.inputs[:5].numpy())


def test_a_folder_without_a_picture_is_named(digits, tmp_path, capfd):
    (tmp_path / "none").mkdir()
    status, rows, told = predict(capfd, digits.folder, tmp_path / "none")
    assert (status, len(rows)) == (1, 1)
    assert told == f"fedhpro: {tmp_path / 'none'} holds no picture\nfedhpro: 0 predicted, the above left out\n"


@pytest.mark.parametrize("size", [-1, 2**63])
def test_a_batch_size_below_0_or_that_torch_cannot_count_is_refused(size, digits, capfd):
    assert predict(capfd, digits.folder, digits.npz(), "--batch-size", size) == (
        2, [], f"fedhpro: --batch-size {size}: it must be between 0 and 2147483647\n",
    )  # fmt: skip


def test_the_file_of_an_earlier_call_is_written_over(digits, picture, tmp_path, capfd):
    out = tmp_path / "out.csv"
    for name in ("a.png", "b.png"):
        assert predict(capfd, digits.folder, picture(0, name), "--out", out) == (0, [], "")
        assert [line.split(",")[0] for line in out.read_text().splitlines()] == ["input", str(tmp_path / name)]
    status, _, told = predict(capfd, digits.folder, tmp_path / "c.png", "--out", out)
    assert status == 2 and told.startswith(f"fedhpro: {tmp_path}/c.png does not exist; ") and out.exists()
