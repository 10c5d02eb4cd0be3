"""`fedhpro export --state`: what cannot be joined is refused in a sentence, and nothing is written."""

import pytest
import torch
from safetensors.torch import save_file

from fedhpro_flwr.cli import main


@pytest.fixture(scope="module")
def head_alone(run_of, tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("head") / "run", **{"model.share": "head", "rounds": 1})


def refusal(capfd, *words):
    capfd.readouterr()
    assert main(["export", *map(str, words)]) == 2
    return capfd.readouterr().err


def test_a_head_alone_says_that_it_is_one(head_alone, capfd):
    capfd.readouterr()
    assert main(["export", str(head_alone.folder)]) == 0
    assert (
        ": cnn, 10 classes, the head alone, the encoders stay with the clients (--state joins it to one), averaged "
        in (capfd.readouterr().out)
    )


def test_a_whole_model_is_joined_to_nothing(digits, tmp_path, capfd):
    said = refusal(capfd, digits.folder, "--state", tmp_path / "s", "--out", tmp_path / "out")
    assert said == f"fedhpro: --state {tmp_path}/s: {digits.folder}/model.safetensors is a whole model; leave it out\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [[], ["--onnx"], ["--onnx", "--out", "a.onnx"]])
def test_what_is_joined_needs_a_file(words, head_alone, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = refusal(capfd, head_alone.folder, "--state", "s", *words)
    assert said == "fedhpro: --state joins a model; name its file by --out, and give that to --onnx\n"
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_holds_no_encoder_or_another_is_refused(head_alone, tmp_path, capfd):
    state, out = tmp_path / "state", tmp_path / "out"
    head = f"{head_alone.folder}/model.safetensors"
    for tensors, sentence in (
        (None, f"--state {state} is damaged or no safetensors file ("),
        ({"other": torch.zeros(2)}, f"--state {state} holds no encoder; give the visit-<last round>-"),
        ({"encoder.x": torch.zeros(2)}, f"--state {state} does not fit the head in {head}: "),
    ):
        if tensors:
            save_file(tensors, state)
        else:
            state.write_bytes(b"nothing")
        said = refusal(capfd, head_alone.folder, "--state", state, "--out", out)
        assert said.startswith(f"fedhpro: {sentence}") and said.count("\n") == 1 and not out.exists()
