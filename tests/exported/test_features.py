"""Features of samples, and the hyper-prototypes beside them, as docs/predict.md reads them."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from fedhpro_flwr import load_exported

pytestmark = pytest.mark.usefixtures("one_thread")
PAGE = Path(__file__).parents[2] / "docs" / "predict.md"


def test_the_head_makes_of_the_features_what_is_predicted(digits):
    model = load_exported(digits.folder)
    features = model.features(digits.test.inputs)
    assert features.shape == (len(digits.test), 8) and not features.requires_grad
    assert torch.equal(model.model.head(features), model.predict(digits.test.inputs).logits)


def test_features_of_texts(texts):
    model = load_exported(texts.folder)
    assert torch.equal(model.model.head(model.features(["iron tin"])), model.predict(["iron tin"]).logits)


def test_the_page_reads_class_means_of_the_vectors_that_a_class_has(tmp_path, monkeypatch):
    (block,) = re.findall(r"```python\n(from safetensors.numpy.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)
    vectors = np.array([[[1, 2], [3, 4], [0, 0]], [[0, 3], [0, 6], [3, 0]]], dtype=np.float32)
    (tmp_path / "RUN").mkdir()
    save_file({"hyper-prototypes": vectors}, tmp_path / "RUN" / "hyper-prototypes.safetensors")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(block, names)
    assert names["means"].tolist() == [[2, 3], [1, 3]]
