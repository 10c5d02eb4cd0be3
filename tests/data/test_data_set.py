"""Split, DataSet, DataSource, the registry and `load`."""

from __future__ import annotations

import re
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest
import torch

from fedhpro_flwr import data
from fedhpro_flwr.data import DATA_SETS, DataSet, DataSource, Split, data_set, load, registry
from fedhpro_flwr.data.hold_out import hold_out
from fedhpro_flwr.data.registry import USES
from fedhpro_flwr.registry import Registry


def images(count: int, channels: int = 1) -> torch.Tensor:
    return torch.zeros(count, channels, 4, 4, dtype=torch.uint8)


def labels(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def test_split_accepts_images_and_vectors() -> None:
    assert len(Split(images(2), labels(0, 5))) == 2
    assert len(Split(torch.zeros(2, 7), labels(0, 1))) == 2
    assert len(Split(torch.zeros(2, 3, 4, 4), labels(0, 1))) == 2


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (images(2).numpy(), labels(0, 1), "^inputs must be a torch tensor, got ndarray; torch.as_tensor makes one"),
        (images(2), labels(0, 1).numpy(), "^labels must be a torch tensor, got ndarray"),
        (images(2).to(torch.int32), labels(0, 1), r"int32 tokens \[N, L\]"),
        (torch.zeros(2, 3, dtype=torch.float64), labels(0, 1), "uint8, float32 or int32"),
        (torch.tensor([[3, -1]], dtype=torch.int32), labels(0), "token ids must be 0 or larger, the smallest is -1"),
        (torch.zeros(2, 3, dtype=torch.uint8), labels(0, 1), "images"),
        (torch.zeros(2, 3, 4), labels(0, 1), "images"),
        (images(2), torch.zeros(2), "int64"),
        (images(2), torch.zeros(2, 1, dtype=torch.int64), "int64"),
        (images(2), labels(0), "2 inputs but 1 labels"),
        (images(0), labels(), "at least one sample"),
        (torch.zeros(2, 0), labels(0, 1), r"a sample needs at least one number, got inputs of shape \[2, 0\]"),
        (images(2)[:, :, :0], labels(0, 1), r"at least one number, got inputs of shape \[2, 1, 0, "),
        (images(2), labels(0, -1), "smallest is -1"),
        (torch.tensor([[0.0], [float("nan")]]), labels(0, 1), "finite"),
        (torch.tensor([[0.0], [float("inf")]]), labels(0, 1), "finite"),
    ],
)
def test_split_refuses(inputs: torch.Tensor, targets: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Split(inputs, targets)


@pytest.mark.parametrize(
    ("domains", "message"),
    [
        (labels(0), r"domains must be int64 \[2\]"),
        (torch.zeros(2), r"domains must be int64 \[2\], got torch.float32"),
        (labels(0, -1), "domains must be 0 or larger, the smallest is -1"),
    ],
)
def test_split_refuses_domains(domains: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Split(images(2), labels(0, 1), domains)


@pytest.mark.parametrize("groups", [labels(0), torch.zeros(2)])
def test_split_refuses_groups(groups: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"groups must be int64 \[2\], got torch\.(int64 \[1\]|float32 \[2\])"):
        Split(images(2), labels(0, 1), None, groups)


def test_groups_follow_their_samples_and_are_no_part_of_them() -> None:
    split = Split(images(3), labels(0, 1, 2), None, labels(5, -6, 7))
    for chosen in (torch.tensor([2, 1]), np.array([2, 1]), np.array([False, True, True]), slice(1, None)):
        groups = split.subset(chosen).groups
        assert groups is not None and sorted(groups.tolist()) == [-6, 7]
    moved = split.to(torch.device("cpu")).groups
    assert moved is not None and moved.tolist() == [5, -6, 7]
    assert len(list(split.tensors())) == 2  # runs go on whose samples are the same


def test_domains_follow_their_samples() -> None:
    split = Split(images(3), labels(0, 1, 2), labels(5, 6, 7)).subset(torch.tensor([2, 0]))
    assert split.domains is not None and split.domains.tolist() == [7, 5]
    moved = split.to(torch.device("cpu"))
    assert moved.domains is not None and moved.domains.tolist() == [7, 5]


def test_data_set_refuses_domains_and_tokens_that_nothing_names() -> None:
    plain, marked = Split(images(2), labels(0, 1)), Split(images(2), labels(0, 1), labels(0, 2))
    with pytest.raises(ValueError, match="domain names and the training split's domains belong together"):
        DataSet("x", plain, plain, ("a", "b"), domain_names=("here",))
    with pytest.raises(ValueError, match=r"a training domain is 2, allowed are 0\.\.1"):
        DataSet("x", marked, marked, ("a", "b"), domain_names=("here", "there"))
    text = Split(torch.tensor([[1, 9]], dtype=torch.int32), labels(0))
    with pytest.raises(ValueError, match="int32 token ids and a vocabulary belong together"):
        DataSet("x", text, text, ("a", "b"))
    with pytest.raises(ValueError, match=r"a training token is 9, allowed are 0\.\.8"):
        DataSet("x", text, text, ("a", "b"), vocabulary=9)
    assert DataSet("x", text, text, ("a", "b"), vocabulary=10).input_shape == (2,)


def test_data_set_knows_its_shape() -> None:
    colour = DataSet(
        "x", Split(images(2, 3), labels(0, 1)), Split(images(1, 3), labels(2)), ("a", "b", "c"), (0.5,) * 3, (1.0,) * 3
    )
    assert (colour.num_classes, colour.input_shape) == (3, (3, 4, 4))
    vectors = DataSet(
        "v", Split(torch.zeros(2, 7), labels(0, 1)), Split(torch.zeros(1, 7), labels(0)), ("a", "b"), (0.0,), (1.0,)
    )
    assert (vectors.num_classes, vectors.input_shape) == (2, (7,))


def test_data_set_refuses() -> None:
    one, three = Split(images(2), labels(0, 1)), Split(images(2, 3), labels(0, 1))
    with pytest.raises(ValueError, match="must agree"):
        DataSet("x", one, three, ("a", "b"), (0.5,), (0.5,))
    with pytest.raises(ValueError, match=r"test label is 2, allowed are 0\.\.1"):
        DataSet("x", one, Split(images(1), labels(2)), ("a", "b"), (0.5,), (0.5,))
    with pytest.raises(ValueError, match="mean and std need 3 numbers"):
        DataSet("x", three, three, ("a", "b"), (0.5,), (0.5,))
    for mean, std in ((0.5, 0.0), (nan, 1.0), (0.5, nan), (0.5, inf)):
        with pytest.raises(ValueError, match=rf"mean \({mean},\) and std \({std},\) must be finite, and std larg"):
            DataSet("x", one, one, ("a", "b"), (mean,), (std,))
    for wrong in (7, "caf\udce9"):  # the second as Python reads a folder whose name is no UTF-8
        with pytest.raises(ValueError, match=re.escape(f"is called {wrong!r}, which is no UTF-8 text; rename it")):
            DataSet("x", one, one, ("a", wrong), (0.5,), (0.5,))


@pytest.mark.parametrize("of_three", [[0.1, 0.2, 0.3], np.array([0.1, 0.2, 0.3])])
def test_lists_and_arrays_become_tuples(of_three) -> None:
    three = Split(images(2, 3), labels(0, 1))
    made = DataSet("x", three, three, ["a", "b"], of_three, of_three)
    assert (made.class_names, made.mean, made.std) == (("a", "b"), (0.1, 0.2, 0.3), (0.1, 0.2, 0.3))


def test_images_with_their_channels_last_and_two_classes_of_one_name_are_named() -> None:
    last = Split(torch.zeros(6, 8, 8, 3, dtype=torch.uint8), torch.arange(6) % 2)
    with pytest.raises(ValueError, match=r"these are \[6, 8, 8, 3\] with the channels last: permute\(0, 3, 1, 2\)"):
        DataSet("w", last, last, ("a", "b"), (0.5,) * 3, (0.5,) * 3)
    flat = Split(torch.zeros(6, 4), torch.arange(6) % 2)
    with pytest.raises(ValueError, match="two classes are called 'rain'"):
        DataSet("w", flat, flat, ("rain", "rain"), (0.0,), (1.0,))


def test_a_loader_that_gives_something_else_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATA_SETS, "mine", lambda source: None)
    with pytest.raises(ValueError, match=r"data\.name = 'mine': its loader gave NoneType, it must give a DataSet"):
        load(DataSource(name="mine"))


def test_unknown_name_lists_what_exists() -> None:
    with pytest.raises(ValueError, match=r"'nothing' is unknown, there are: .*cifar10, .*digits.*mnist.*npz"):
        load(DataSource(name="nothing"))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("digits", {"image_size": 32}, r"^data\.image-size = 32: data set 'digits' does not use it; leave it out$"),
        ("mnist", {"domains": "mnist,usps"}, r"^data\.domains = 'mnist,usps': data set 'mnist' does not use it"),
        ("image-folder", {"weights": "w.pth"}, r"^data\.weights = 'w\.pth': data set 'image-folder' does not use it"),
        (
            "digits",
            {"path": "/nowhere/mine.npz"},
            r"^data\.path = '/nowhere/mine\.npz': data set 'digits' does",
        ),
        ("digits", {"tokenizer": "/nowhere"}, r"^data\.tokenizer = '/nowhere': data set 'digits' does not use it"),
        ("image-folder", {"text_length": 9}, r"^data\.text-length = 9: data set 'image-folder' does not use it"),
        (
            "digit-domains",
            {"path": "x", "domains": "mnist,usps"},
            r"^data\.path = 'x': none of the domains mnist",
        ),
        ("office-caltech-surf", {"image_size": 8}, r"^data\.image-size = 8: data set 'office-caltech-surf' does not"),
    ],
)
def test_settings_that_a_set_would_ignore_are_refused(name: str, values: dict[str, str | int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(DataSource(name=name, **values))


def test_every_set_here_says_what_it_uses_and_a_users_own_may_use_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {name for name, loader in DATA_SETS.items() if loader.__module__.startswith("fedhpro_flwr.")} == USES.keys()
    monkeypatch.setattr(registry, "DATA_SETS", Registry("data.name"))
    monkeypatch.setattr(data, "DATA_SETS", registry.DATA_SETS)
    asked: list[DataSource] = []
    one = Split(images(2), labels(0, 1))

    @data_set("mine")
    def mine(source: DataSource) -> DataSet:
        asked.append(source)
        return DataSet("mine", one, one, ("a", "b"), (0.5,), (0.5,))

    source = DataSource(name="mine", domains="a", image_size=9, weights="w")
    load(source)
    assert asked == [source]


def test_the_fingerprint_of_the_content_sees_every_sample_and_label() -> None:
    def content(value: int = 0, label: int = 0, domain: int = 0, test: int = 0) -> str:
        pixels = images(3)
        pixels[2, 0, 0, 1] = value
        train = Split(pixels, labels(0, 1, label), labels(0, 1, domain))
        other = Split(images(2) + test, labels(0, 1), labels(0, 1))
        return DataSet("a", train, other, ("a", "b"), (0.5,), (0.5,), ("d", "e")).content

    assert content() == content()
    assert len({content(), content(value=1), content(label=1), content(domain=1), content(test=1)}) == 5


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match=r"^data\.name: 'digits' is registered already"):
        data_set("digits")(DATA_SETS["digits"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"test_share": 0.0}, r"^test_share\n  .* greater than 0 "),
        ({"test_share": 1.0}, r"^test_share\n  .* less than 1 "),
        ({"train_limit": -1}, r"^train_limit\n  .* greater than or equal to 0 "),
        ({"split_seed": -1}, r"^split_seed\n  .* greater than or equal to 0 "),
    ],
)
def test_source_refuses(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"(?m){message}"):
        DataSource(name="digits", **values)


def test_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDHPRO_DATA_DIR", raising=False)
    with pytest.raises(FileNotFoundError, match=r"set data\.root or the environment variable FEDHPRO_DATA_DIR"):
        DataSource(name="mnist").folder()
    monkeypatch.setenv("FEDHPRO_DATA_DIR", str(tmp_path))
    assert DataSource(name="mnist").folder() == tmp_path
    assert DataSource(name="mnist", root=str(tmp_path / "own")).folder() == tmp_path / "own"  # the key comes first


def test_digits() -> None:
    from sklearn.datasets import load_digits

    loaded = load(DataSource(name="digits"))
    assert (loaded.num_classes, loaded.input_shape) == (10, (1, 8, 8))
    assert len(loaded.train) + len(loaded.test) == 1797
    counts = np.bincount(load_digits().target)
    np.testing.assert_array_equal(np.bincount(loaded.test.labels), [round(0.2 * n) for n in counts])
    assert loaded.train.inputs.dtype == torch.uint8
    scaled = torch.cat([loaded.train.inputs, loaded.test.inputs]).double() / 255
    assert round(float(scaled.mean()), 4) == loaded.mean[0]
    assert round(float(scaled.std(correction=0)), 4) == loaded.std[0]
    # Every sample is in one part: the pixels of both parts together are those of the source.
    both = torch.cat([loaded.train.inputs, loaded.test.inputs]).flatten(1).numpy()
    source = np.rint(load_digits().data * 255 / 16).astype(np.uint8)
    assert sorted(map(bytes, both)) == sorted(map(bytes, source))


def test_digits_split_follows_its_seed() -> None:
    first, again, other = (load(DataSource(name="digits", split_seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(first.test.inputs, again.test.inputs)
    assert not torch.equal(first.test.inputs, other.test.inputs)


def test_train_limit_keeps_a_seeded_choice() -> None:
    full = load(DataSource(name="digits"))
    limited, again = (load(DataSource(name="digits", train_limit=100)) for _ in range(2))
    assert len(limited.train) == 100
    assert torch.equal(limited.train.inputs, again.train.inputs)
    assert torch.equal(limited.test.inputs, full.test.inputs)
    rows = {bytes(row) for row in full.train.inputs.flatten(1).numpy()}
    assert all(bytes(row) in rows for row in limited.train.inputs.flatten(1).numpy())
    assert len(load(DataSource(name="digits", train_limit=10**6)).train) == len(full.train)


def test_hold_out_by_hand() -> None:
    targets = np.array([0, 0, 0, 0, 1, 1, 2])
    train, test = hold_out(targets, 0.5, seed=3)
    assert sorted([*train, *test]) == list(range(7))
    np.testing.assert_array_equal(np.bincount(targets[test], minlength=3), [2, 1, 0])  # never all of a class
    sentence = "test-share = 0.1 of 7 samples leaves no test sample: it is taken of each class, and there are 3; use a "
    with pytest.raises(ValueError, match=sentence):
        hold_out(targets, 0.1, seed=3)
