"""A run of three rounds, and what it leaves."""

import json

from small_run import SMALL as ONE_ROUND

from fedhpro_flwr.cli import main
from fedhpro_flwr.runs.run_folder import read_rounds

SMALL = ONE_ROUND | {"rounds": 3}


def run(*arguments, **settings):
    flags = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    return main(["run", *map(str, arguments), *flags, "--engine", "in-process"])


def without_seconds(value):
    if isinstance(value, dict):
        return {key: without_seconds(inner) for key, inner in value.items() if "seconds" not in key}
    return [without_seconds(inner) for inner in value] if isinstance(value, list) else value


def outcome(folder):
    """What a run leaves, as far as it may not differ."""
    files = {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}
    summary = json.loads((folder / "summary.json").read_text())
    return files | {"rounds": without_seconds(read_rounds(folder)), "summary": without_seconds(summary)}
