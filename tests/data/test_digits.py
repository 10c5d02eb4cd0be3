"""scikit-learn's digits, read without importing it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch

from fedhpro_flwr.data import digits as digits_module
from fedhpro_flwr.data.digits import digits, read_digits
from fedhpro_flwr.data.registry import DataSource


def test_they_are_what_scikit_learn_gives():
    from sklearn.datasets import load_digits

    for ours, theirs in zip(read_digits(), load_digits(return_X_y=True), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("found", [None, importlib.util.find_spec("json")])
def test_where_the_file_lies_elsewhere_scikit_learn_reads_it(monkeypatch, found):
    known = digits(DataSource(name="digits"))
    monkeypatch.setattr(digits_module, "find_spec", lambda name: found)
    again = digits(DataSource(name="digits"))
    assert torch.equal(known.train.inputs, again.train.inputs) and torch.equal(known.test.labels, again.test.labels)


def test_scikit_learn_is_not_imported():
    reading = "from fedhpro_flwr.data.digits import read_digits; read_digits()"
    code = f"import sys; {reading}; print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
