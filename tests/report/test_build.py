"""Whole reports of small runs: what is on the page, what is missing and why, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fedhpro_flwr.cli import main
from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.report.build import write_report


def headings(text):
    return re.findall(r"<h2>(.*?)</h2>", text)


def test_a_table_row_a_group_and_a_png_a_picture(make_run, tmp_path: Path):
    for seed, accuracy in ((0, 0.5), (1, 0.7)):
        make_run(f"hpro{seed}", [0.25, accuracy], seed=seed)
        make_run(f"avg{seed}", [0.25, accuracy - 0.1], seed=seed, method__name="fedavg")
    text = write_report([tmp_path / "runs"], tmp_path / "out").read_text(encoding="utf-8")
    assert re.findall(r"</span>(.*?)</th><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td>", text) == [
        ("fedavg", "0, 1", "2", "50.00 ± 14.14"),
        ("fedhpro", "0, 1", "2", "60.00 ± 14.14"),
    ]
    assert headings(text) == [
        "Overview", "Accuracy over the rounds", "Who has which samples", "Classes", "Features and prototypes",
        "Seconds and bytes",
    ]  # fmt: skip
    named = set(re.findall(r"<small>(.*?)</small>", text))
    assert named == {path.name for path in (tmp_path / "out").glob("*.png")} == {
        "accuracy.png", "training-loss.png", "partition-1.png", "classes.png", "seconds.png", "bytes.png",
    }  # fmt: skip
    assert "fedhpro: no picture: it has no single global model" in text


def test_a_report_without_features_loads_no_model(make_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_run("a", [0.5])
    monkeypatch.setattr("fedhpro_flwr.report.build.read_features", lambda _: pytest.fail("features were read"))
    assert main(["report", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--no-features"]) == 0
    assert "Features and prototypes" not in headings((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))


def test_domains_have_their_bars_where_there_are_any(make_run, tmp_path: Path):
    make_run("a", [0.5, 0.75], data__domains="north,south")
    text = write_report([tmp_path / "runs"], tmp_path / "out").read_text(encoding="utf-8")
    assert "Classes and domains" in headings(text)
    assert "fedhpro: from 37.5 (south) to 75.0 (north)" in text


def test_what_is_unfinished_or_double_is_said(make_run, tmp_path: Path):
    make_run("20260101", [0.5])
    make_run("20260102", [0.5], finished=False, failure="killed <9>")
    make_run("20260103", [0.5, 0.6], finished=False, seed=1, failure="power cut", rounds=1)
    make_run("20260104", [], finished=False, seed=2, failure="no such data")
    text = write_report([tmp_path / "runs"], tmp_path / "out").read_text(encoding="utf-8")
    assert "20260104 is not shown: no round is complete (no such data)" in text
    assert "20260103 (fedhpro, seed 1) has not finished: 2 of 1 rounds are shown (power cut)" in text
    assert "20260102 is not shown: another run has its settings and its seed" in text


def test_accuracies_of_a_group_are_those_of_its_finished_runs(make_run, tmp_path: Path):
    make_run("a", [0.5, 0.75])
    make_run("b", [0.25], finished=False, seed=1, rounds=2)
    text = write_report([tmp_path / "runs"], tmp_path / "out").read_text(encoding="utf-8")
    row = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", text[text.index("mean of last ten, %") :])
    assert "0, 1 (unfinished)" in row
    assert row[row.index("0, 1 (unfinished)") + 2 :][:3] == ["75.00", "75.00", "62.50"]
    assert "accuracy of" not in row  # one measure: the text above says it


def test_each_row_says_what_its_accuracy_is_of_where_they_differ(make_run, tmp_path: Path):
    make_run("a", [0.5])
    make_run("b", [0.5], data__domains="north,south")
    text = write_report([tmp_path / "runs"], tmp_path / "out").read_text(encoding="utf-8")
    cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", text)
    assert cells.index("accuracy of") < cells.index("test data") < cells.index("mean over domains")


def test_runs_of_a_grid_are_called_by_more_than_their_seed(make_run, tmp_path: Path):
    make_run("fedavg/seed-0", [0.5], method__name="fedavg")
    make_run("fedhpro/seed-0", [], finished=False, failure="power cut")
    text = write_report([tmp_path / "runs"], tmp_path / "out").read_text(encoding="utf-8")
    assert "<li>fedhpro/seed-0 is not shown: no round is complete (power cut)</li>" in text


def test_a_run_that_was_not_tested_yet_is_shown_without_accuracies(make_run, tmp_path: Path):
    folder = make_run("a", [0.5, 0.6], finished=False, evaluation__every=5)
    rounds = [json.loads(text) | {"tested": None} for text in (folder / "metrics.jsonl").read_text().splitlines()]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in rounds))
    text = write_report([folder], tmp_path / "out").read_text(encoding="utf-8")
    assert "Accuracy is of: nothing yet" in text
    assert "training-loss.png" in text
    assert "Classes" not in headings(text)


def test_names_are_text_and_neither_formulas_nor_markup(make_run, tmp_path: Path):
    folder = make_run("a", [0.5], data__domains="$\\x{$,<i>")
    table = {"class-names": ["<b>$\\x{$", "a$b$"], "client-domains": ["$^$", ""], "counts": [[3, 0], [1, 4]]}
    (folder / "partition.json").write_text(json.dumps(table))
    text = write_report([folder], tmp_path / "out").read_text(encoding="utf-8")
    assert "&lt;b&gt;$\\x{$" in text
    assert "a$b$" in text
    assert "<b>" not in text and "<i>" not in text


def test_tables_of_different_classes_are_different_pictures(make_run, tmp_path: Path):
    for name, classes in (("a", ["good", "bad"]), ("b", ["World", "Sports"]), ("c", ["good", "bad"])):
        folder = make_run(name, [0.5], local__lr={"a": 0.1, "b": 0.2, "c": 0.3}[name])
        table = {"class-names": classes, "client-domains": ["", ""], "counts": [[3, 0], [1, 4]]}
        (folder / "partition.json").write_text(json.dumps(table))
    text = write_report([tmp_path / "runs"], tmp_path / "out").read_text(encoding="utf-8")
    assert "partition-2.png" in text and "partition-3.png" not in text
    assert ">good<" in text and ">World<" in text


@pytest.mark.filterwarnings("error")  # of Matplotlib: such names once left no room for the table
def test_a_long_name_of_one_word_keeps_its_beginning(make_run, tmp_path: Path):
    folder = make_run("a", [0.5])
    table = {"class-names": ["diabetic_retinopathy", "dog"], "client-domains": ["", ""], "counts": [[3, 0], [1, 4]]}
    (folder / "partition.json").write_text(json.dumps(table))
    text = write_report([folder], tmp_path / "out").read_text(encoding="utf-8")
    assert ">diabetic_retino…<" in text and ">diabetic_retinopa…<" in text  # by client, by accuracy
    assert ">…<" not in text


def test_a_reason_cut_off_within_a_character_and_rounds_without_a_loss_are_shown(make_run, tmp_path: Path):
    folder = make_run("a", [0.5, 0.6], finished=False, data__domains="north,south")
    (folder / "failure.txt").write_bytes("zu früh".encode()[:-2])
    lines = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    lines[1]["tested"]["mean_over_domains"] = lines[0].pop("train_loss") and None
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in lines))
    text = write_report([folder], tmp_path / "out").read_text(encoding="utf-8")
    assert "zu fr\ufffd" in text and "training-loss.png" in text


def test_no_round_at_all_is_refused_with_the_reason(make_run, tmp_path: Path):
    make_run("a", [], finished=False, failure="data.path does not exist")
    with pytest.raises(ConfigError, match=r"no run in .*runs has got through a round yet: data\.path does not exist"):
        write_report([tmp_path / "runs"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_real_run_with_features_and_central_means(tmp_path: Path, capsys):
    settings = {
        "rounds": 2, "partition.num-partitions": 3, "data.train-limit": 120, "local.epochs": 1, "model.name": "mlp",
        "model.width": 8, "hyper-prototypes.matching-steps": 2, "run-folder": tmp_path / "run",
    }  # fmt: skip
    changes = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    assert main(["run", *changes, "--engine", "in-process"]) == 0
    assert main(["report", str(tmp_path / "run")]) == 0
    out = tmp_path / "run" / "report"
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {out / 'index.html'}"
    text = (out / "index.html").read_text(encoding="utf-8")
    assert "PCA of 359 test samples and 50 prototypes." in text
    assert "Movement of the prototypes" in headings(text)
    assert main(["report", str(tmp_path / "run"), "--central"]) == 0
    text = (out / "index.html").read_text(encoding="utf-8")
    assert "Prototypes and central class means" in headings(text)
    assert {path.stem for path in out.glob("prototype-*.png")} == {
        "prototype-cosine", "prototype-relative", "prototype-structure",
    }  # fmt: skip
    assert len(list(out.glob("central-*.safetensors"))) == 1


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_the_command_refuses_a_place_without_a_run(name, tmp_path: Path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["report", str(tmp_path / name)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"fedhpro: {tmp_path / name} ")
    assert said.count("\n") == 1
    assert not (tmp_path / name / "report").exists()


def test_a_file_in_the_place_of_the_reports_folder_is_refused(make_run, tmp_path: Path, capsys):
    folder = make_run("a", [0.5])
    (tmp_path / "file").write_text("mine")
    assert main(["report", str(folder), "--out", str(tmp_path / "file")]) == 2
    out = tmp_path / "file"
    assert capsys.readouterr().err == f"fedhpro: --out {out}: {out} is a file; name another folder\n"
    assert out.read_text() == "mine"
