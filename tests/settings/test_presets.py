"""The presets: complete, different in the named keys only, and second to a given value."""

import re
from pathlib import Path

import pytest

from fedhpro_flwr.config import RunConfig, known_keys
from fedhpro_flwr.settings.presets import PAPER, PRESETS, REFERENCE, TUNED


@pytest.mark.parametrize("preset", PRESETS)
def test_the_value_preset_leaves_the_key_to_the_preset(preset):
    named = RunConfig.parse({"preset": preset} | dict.fromkeys(PAPER, "preset"))
    assert named == RunConfig.parse({"preset": preset})
    assert {key: named.flat()[key] for key in PAPER} == PRESETS[preset]


def test_a_given_value_wins_over_the_preset():
    config = RunConfig.parse({"preset": "reference", "losses.margin": "l2"})
    assert (config.losses.margin, config.losses.hpcl) == ("l2", "reference")


def test_preset_is_an_ordinary_text_elsewhere():
    assert RunConfig.parse({"data.path": "preset"}).data.path == "preset"


def test_the_presets_differ_in_the_named_keys_only():
    assert PAPER.keys() == REFERENCE.keys()
    assert {key for key in PAPER if PAPER[key] != REFERENCE[key]} == {
        "hyper-prototypes.matching-distance",
        "hyper-prototypes.matching-head",
        "hyper-prototypes.virtual-scale",
        "losses.margin",
        "losses.hpcl",
        "losses.hpal",
        "class-gradients.samples-per-class",
        "class-gradients.augment",
        "class-gradients.scale",
        "calibration.head",
        "calibration.first-head",
    }


def test_tuned_differs_from_the_paper_in_what_was_measured():
    assert {key: TUNED[key] for key in PAPER if PAPER[key] != TUNED[key]} == {
        "hyper-prototypes.matching-steps": 0,
        "losses.margin": "none",
        "losses.hpal": "off",
        "losses.correction": "control-variates",
        "losses.logit-adjustment": 0.5,
        "calibration.head": "separate",
        "calibration.from-imbalance": 5.0,
    }


def test_the_presets_are_complete():
    sections = ("hyper-prototypes.", "losses.", "class-gradients.", "calibration.")
    assert set(PAPER) == set(TUNED) == {key for key in known_keys() if key.startswith(sections)}


def test_the_values_are_those_of_the_table_in_deviations():
    page = (Path(__file__).resolve().parents[2] / "DEVIATIONS.md").read_text(encoding="utf-8")
    header, _, *rows = page[page.index("| option") :].split("\n\n")[0].splitlines()
    read = set()
    for keys, *cells in (row.strip("| ").split(" | ") for row in rows):
        first, *more = re.findall(r"`(.*?)`", keys)
        for number, key in enumerate([first, *(first.split(".")[0] + name for name in more)]):
            for preset, cell in zip(re.findall(r"`(\w+)`", header), cells, strict=True):
                if cell != "unused":
                    value = re.match(r"[\w.-]+", cell.split(", ")[number].strip("`"))[0]
                    assert (type(PAPER[key])(value), preset, key) == (PRESETS[preset][key], preset, key)
                    read.add(key)
    assert {key for key in PAPER if len({preset[key] for preset in PRESETS.values()}) > 1} <= read
