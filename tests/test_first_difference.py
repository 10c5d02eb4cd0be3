"""Named tensors beside others."""

import torch

from fedhpro_flwr.first_difference import first_difference

HERE = {"b": torch.zeros(2), "a": torch.zeros(3, 1), "n": torch.tensor(1)}


def test_numbers_and_order_do_not_matter():
    there = {"n": torch.tensor(7), "a": torch.ones(3, 1, device="meta"), "b": torch.ones(2)}
    assert first_difference(HERE, there) == "" == first_difference({}, {})


def test_the_first_by_name_is_told():
    assert first_difference(HERE, HERE | {"b": torch.zeros(3)}) == "b is float32 [3], here float32 [2]"
    assert (
        first_difference(HERE, HERE | {"b": torch.zeros(3), "a": torch.zeros(3)})
        == "a is float32 [3], here float32 [3, 1]"
    )
    assert first_difference(HERE, HERE | {"n": torch.tensor(1.0)}) == "n is float32 [], here int64 []"
    assert first_difference(HERE, HERE | {"z": torch.zeros(1)}) == "z is float32 [1], here missing"
    assert first_difference(HERE, {"a": HERE["a"], "n": HERE["n"]}) == "b is missing, here float32 [2]"
