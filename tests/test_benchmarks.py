"""The benchmarks still fit the library: no figure of theirs is looked at here."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_run import SMALL, only_folder

from fedhpro_flwr.records import pack_update, record_bytes
from fedhpro_flwr.runs.run_folder import read_rounds

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def found(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), str(BENCHMARKS.parent), *sys.path])


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCHMARKS.glob("*.py")))
def test_each_can_be_imported(name):
    importlib.import_module(name)


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.stem)
def test_each_that_has_a_main_calls_it(path):
    code = path.read_text(encoding="utf-8")
    assert ("\ndef main()" in code) == code.endswith('\n\n\nif __name__ == "__main__":\n    main()\n')


def test_no_table_is_written_of_cells_of_two_kinds_of_processor(monkeypatch):
    """As a run on another machine leaves them that was stopped half-way."""
    results = importlib.import_module("results")
    monkeypatch.setattr(sys, "argv", ["results.py", "--jobs", "0"])
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: pytest.fail("a page was written"))
    stored = results.read()
    stored[min(stored)] |= {"processor": "another"}
    monkeypatch.setattr(results, "read", lambda: stored)
    with pytest.raises(SystemExit, match=r"results\.json has cells of .* and another: no table is written"):
        results.main()


def test_replies_go_through_the_strategy(monkeypatch):
    """The round that is taken apart for docs/overhead.md is the one that the strategy plays."""
    thousand_replies = importlib.import_module("thousand_replies")
    monkeypatch.setattr(thousand_replies, "CLIENTS", 2)
    monkeypatch.setattr(thousand_replies.torch, "set_num_threads", lambda threads: None)  # of the process that tests
    held = thousand_replies.aggregate({"preset": "paper"})
    assert held.clients == 2
    one = importlib.import_module("round_phases").Measured({"preset": "paper"}, thousand_replies.CLASSES)
    assert held.reply_bytes == 2 * sum(record_bytes(pack_update(one.update())).values())


@pytest.mark.parametrize("preset", ["paper", "reference", "tuned"])
def test_every_phase_of_every_preset_is_measured(preset, monkeypatch):
    round_phases = importlib.import_module("round_phases")
    monkeypatch.setattr(round_phases, "CLIENT_IMAGES", 40)
    monkeypatch.setattr(round_phases, "TIMED_IMAGES", 20)
    short = {"calibration.epochs": 1, "calibration.matching-steps": 1, "hyper-prototypes.matching-steps": 1}
    if preset == "tuned":
        short["hyper-prototypes.matching-steps"] = 0
    costs = round_phases.Measured({"preset": preset, **short}, 10).costs()
    phases = {*costs.client, *costs.each_reply, *costs.once}
    assert {"local training on the cross-entropy", "HPCL and HPAL", "unpack and check a reply"} <= phases
    assert ("control variates" in costs.client, "control variates" in costs.each_reply) == (preset == "tuned",) * 2
    assert ("calibration" in phases) == (preset == "reference")
    assert ("matching" in phases) == (preset != "tuned")


def test_a_run_finds_packages_where_its_parent_finds_them(monkeypatch, tmp_path):
    """Some lie on PYTHONPATH alone, on a machine where nothing can be installed."""
    engine, ran = importlib.import_module("engine"), []

    def run(command, *, env, **_):
        ran.append(env["PYTHONPATH"].split(os.pathsep))
        raise subprocess.TimeoutExpired(command, 0)

    monkeypatch.setattr(engine.subprocess, "run", run)
    for given in ("/some/packages", ""):
        monkeypatch.setenv("PYTHONPATH", given)
        with pytest.raises(subprocess.TimeoutExpired):
            engine.launch("in-process", tmp_path, {})
    assert ran == [[str(BENCHMARKS.parent), "/some/packages"], [str(BENCHMARKS.parent)]]


def test_what_a_card_has_shown_is_not_lost_to_what_fails(capsys):
    """A card may be there once, and for minutes."""
    gpu = importlib.import_module("gpu")
    of = gpu.Measured(torch.device("cpu"), images=8, epochs=1, sizes=[4])

    def breaks(of):
        yield gpu.Row("first", "a number", 1.0, "s")
        assert "first: a number: 1 s" in capsys.readouterr().out  # at once
        raise RuntimeError("of a driver")

    def lasts(of):
        yield "a table"
        of.ends = 0.0
        yield "the last"
        raise AssertionError

    def late(of):
        raise AssertionError

    assert gpu.measure(of, [breaks, lasts, late]) == ["breaks", "lasts", "late"]
    said = capsys.readouterr().out
    assert "breaks: NOT MEASURED, RuntimeError: of a driver" in said
    assert "a table" in said and "the last" in said and "lasts: NOT MEASURED, TimeoutError" in said


@pytest.mark.parametrize("section", ["bits_and_memory", "training"])
def test_a_gpus_benchmark_works_without_one(section):
    gpu = importlib.import_module("gpu")
    of = gpu.Measured(torch.device("cpu"), images=4, epochs=1, sizes=[4])
    of.limits = {"float32": 1.0, "bfloat16": 1.0}
    found = list(getattr(gpu, section)(of))
    assert found
    differing = [row.value for row in found if isinstance(row, gpu.Row) and row.section == "same bits"]
    assert differing == ([0] if section == "bits_and_memory" else [])


def test_as_the_release_aggregates_one_client_trains_and_its_model_is_the_next(tmp_path, monkeypatch):
    released_run = importlib.import_module("released_run")
    assert [released_run.last_client(10, 25, server_round) for server_round in (1, 2, 3, 87, 100)] == [4, 4, 1, 9, 6]

    made = []
    keep = released_run.the_trained_model
    monkeypatch.setattr(released_run, "the_trained_model", lambda *given: made.append(keep(*given)) or made[-1])
    settings = {**SMALL, "partition.num-partitions": 10, "rounds": 2, "seed": 25, "results-dir": tmp_path}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    monkeypatch.setattr(sys, "argv", ["released_run.py", *words])
    with pytest.raises(SystemExit, match=r"^0$"):
        released_run.main()
    folder = only_folder(tmp_path)
    for line in read_rounds(folder):
        assert [client["partition-id"] for client in line["clients"] if client["train-loss"] > 0] == [4]
    saved = load_file(folder / "model.safetensors")
    assert all(torch.equal(saved[name], tensor) for name, tensor in made[-1].items())
    with pytest.raises(ValueError, match="unpack"):
        keep(None, [made[0], made[0]], [1, 1], made[-1])
