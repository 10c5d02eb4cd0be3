"""Settings of two runs compared: places do not count, a file's name does, and a sentence names five keys."""

import pytest

from fedhpro_flwr.settings.places import differing, without_places

HERE = {"seed": 1, "data.root": "/here", "data.path": "/here/a.npz", "data.download": True, "local.lr": 0.1}


def test_where_files_lie_does_not_count_and_which_they_are_does():
    assert without_places(HERE) == {"seed": 1, "data.path": "a.npz", "local.lr": 0.1}
    assert differing(HERE | {"data.root": "/x", "data.path": "/x/a.npz", "data.download": False}, HERE) == ""
    assert differing(HERE | {"data.path": "/here/b.npz"}, HERE) == "data.path = 'b.npz' (here 'a.npz')"


@pytest.mark.parametrize("key", ["data.path", "data.weights", "data.tokenizer"])
def test_a_file_or_folder_may_be_moved_and_not_renamed(key: str):
    assert differing({key: "/there/bert"}, {key: "/here/bert"}) == ""
    assert differing({key: "/here/gpt"}, {key: "/here/bert"}) == f"{key} = 'gpt' (here 'bert')"


def test_what_differs_is_named_and_what_may_is_not():
    other = HERE | {"seed": 2, "local.lr": 0.5}
    assert differing(other, HERE) == "seed = 2 (here 1), local.lr = 0.5 (here 0.1)"
    assert differing(other, HERE, {"seed"}) == "local.lr = 0.5 (here 0.1)"
    assert differing(other | {"older": 3}, HERE, {"seed", "local.lr"}) == ""


@pytest.mark.parametrize(("count", "end"), [(5, "k4 = 0 (here 1)"), (6, "k4 = 0 (here 1) and 1 more")])
def test_five_are_named(count: int, end: str):
    keys = [f"k{number}" for number in range(count)]
    assert differing(dict.fromkeys(keys, 0), dict.fromkeys(keys, 1)).endswith(end)
