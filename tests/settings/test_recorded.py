"""What a run wrote down before an option existed: the option is off, whatever its preset says today."""

from __future__ import annotations

import tomllib

import tomli_w

from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.runs.resume import refuse_other_settings
from fedhpro_flwr.settings.flat_keys import flatten
from fedhpro_flwr.settings.from_command_line import prepare
from fedhpro_flwr.settings.presets import PAPER, TUNED
from fedhpro_flwr.settings.recorded import of_recorded, read_recorded

LATER = ("losses.correction", "losses.logit-adjustment")
TODAY = RunConfig.parse({"preset": "tuned"}).flat()
OLDER = {key: value for key, value in TODAY.items() if key not in LATER}


def test_what_came_later_is_off():
    config = of_recorded(OLDER)
    assert (config.losses.correction, config.losses.logit_adjustment) == ("none", 0.0)
    assert {key: value for key, value in config.flat().items() if key not in LATER} == OLDER
    assert all(TUNED[key] != PAPER[key] for key in LATER)


def test_what_was_written_down_stays():
    assert of_recorded(TODAY).flat() == TODAY


def test_a_run_of_older_code_goes_on_as_it_began(tmp_path):
    refuse_other_settings(OLDER, RunConfig.parse(OLDER | {key: PAPER[key] for key in LATER}), "resume")
    (tmp_path / "config.toml").write_text(tomli_w.dumps(OLDER))
    assert read_recorded(tmp_path / "config.toml").losses.logit_adjustment == 0.0


def test_repeating_a_run_repeats_what_it_was(tmp_path):
    """A file of one's own leaves keys to the preset; that of a run, which lies beside its rounds, does not."""
    (tmp_path / "config.toml").write_text(tomli_w.dumps(OLDER))
    assert flatten(tomllib.loads((tmp_path / "config.toml").read_text())) == OLDER
    assert prepare(str(tmp_path / "config.toml"), []).losses.logit_adjustment == TUNED["losses.logit-adjustment"]
    (tmp_path / "metrics.jsonl").touch()
    assert prepare(str(tmp_path / "config.toml"), []).losses.logit_adjustment == 0.0
    assert prepare(str(tmp_path / "config.toml"), ["losses.logit-adjustment=1.0"]).losses.logit_adjustment == 1.0
