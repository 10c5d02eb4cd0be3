"""The folder of a run: its settings, a line a round, then the models, the curves and a summary. No half files."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from errno import ENOENT
from pathlib import Path
from secrets import token_hex
from typing import IO, TYPE_CHECKING, Any

import tomli_w
from torch import Tensor

from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.exchange import GlobalModel
from fedhpro_flwr.exported.description import ModelDescription, model_bytes
from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.records import HYPER_PROTOTYPES
from fedhpro_flwr.runs.folder_lock import lock
from fedhpro_flwr.runs.read_json import of_json
from fedhpro_flwr.runs.reports import RoundReport
from fedhpro_flwr.runs.round_line import round_of
from fedhpro_flwr.settings.flat_keys import nest
from fedhpro_flwr.tensor_file import file_content
from fedhpro_flwr.whole_file import naming, remove_unfinished, write_whole
from fedhpro_flwr.writable import make_folder

if TYPE_CHECKING:
    from fedhpro_flwr.server.known_data import KnownData

CONFIG_FILE, METRICS_FILE, SUMMARY_FILE = "config.toml", "metrics.jsonl", "summary.json"
PARTITION_FILE, FAILURE_FILE, CURVES_FILE = "partition.json", "failure.txt", "curves.png"
MODEL_FILE, HYPER_PROTOTYPES_FILE = "model.safetensors", "hyper-prototypes.safetensors"
CHECKPOINT_FOLDER = "checkpoint"
METHOD_FILE = "method.safetensors"  # the state of methods without hyper-prototypes
PROTOTYPES_FILE = "prototypes.safetensors"  # of all rounds
OF_A_FINISHED_RUN = (
    MODEL_FILE, "model-*.safetensors", HYPER_PROTOTYPES_FILE, METHOD_FILE, PROTOTYPES_FILE, CURVES_FILE,
)  # fmt: skip


def new_path(results: Path, experiment: str) -> Path:
    """results/<experiment>/<time>-<short id>."""
    return results / experiment / f"{time.strftime('%Y%m%d-%H%M%S')}-{token_hex(2)}"


def write_settings(folder: Path, config: RunConfig) -> None:
    """config.toml: every setting, presets filled in."""
    write_whole(folder / CONFIG_FILE, tomli_w.dumps(nest(config.flat())).encode())


def refuse_taken(folder: Path) -> None:
    """Refuse to write over a run that is finished or has a checkpoint to go on from; any other run is begun anew.

    Raises:
        ConfigError: the folder holds a summary or a checkpoint.
    """
    if (folder / SUMMARY_FILE).exists():
        raise ConfigError(f"run-folder = {str(folder)!r} holds a finished run; name another folder")
    if saved := rounds_in(folder / CHECKPOINT_FOLDER):
        raise ConfigError(
            f"run-folder = {str(folder)!r} holds a run that was stopped after round {saved[-1]} or later: "
            f"go on with `fedhpro run --resume {folder}`, delete its folder {CHECKPOINT_FOLDER} to begin anew, "
            "or name another folder"
        )


def begun_folder(config: RunConfig) -> Path:
    """Make the folder of a new run: the one that the settings name, or a new one under the results folder.

    Raises:
        ConfigError: it holds a run that is finished or can go on, or it cannot be made or written; the key is named.
    """
    if config.run_folder:
        folder, named = expanded(config.run_folder).resolve(), f"run-folder = {config.run_folder!r}"
        refuse_taken(folder)
    else:
        results = config.results_dir or "results"
        folder, named = new_path(expanded(results).resolve(), config.experiment), f"results-dir = {results!r}"
    make_folder(folder, named)
    return folder


class RunFolder:
    """The files of one run, locked against other runs until its `with` block ends. An observer of the strategy.

    Args:
        path: the folder; made if it does not exist.
        config: the settings.
        rounds_before: rounds of an earlier attempt that the run goes on after; what is there of later ones is removed.
        goes_on: the run was begun in this folder before and keeps its name, so that its clients' privacy accounts go
            on, even if no checkpoint was written yet.
        held: the folder's lock, if it is held already.

    Raises:
        ConfigError: another run writes there.
    """

    def __init__(
        self,
        path: Path,
        config: RunConfig,
        *,
        rounds_before: int = 0,
        goes_on: bool = False,
        held: IO[bytes] | None = None,
    ) -> None:
        self.path, self.rounds_before, self.began = path, rounds_before, time.monotonic()
        self.run = (run_of(path) if goes_on else "") or token_hex(4)
        self._checkpoints = config.checkpoint.every > 0
        path.mkdir(parents=True, exist_ok=True)
        self._lock = held or lock(path)
        remove_unfinished(path)
        (path / SUMMARY_FILE).unlink(missing_ok=True)  # first: from here on this is no finished run
        if not rounds_before:
            shutil.rmtree(path / CHECKPOINT_FOLDER, ignore_errors=True)
            for file in [file for name in OF_A_FINISHED_RUN for file in path.glob(name)]:
                file.unlink()  # from another attempt, and so from another model
        write_settings(path, config)
        (path / FAILURE_FILE).unlink(missing_ok=True)
        lines = [json.dumps(line) + "\n" for line in read_rounds(path, rounds_before)]
        write_whole(path / METRICS_FILE, "".join(lines).encode())
        self._metrics = (path / METRICS_FILE).open("a", encoding="utf-8")

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with suppress(OSError):  # a full disk had no room for a line, which `on_round` has told already
                self._metrics.close()
        finally:
            self._lock.close()  # last: another run may begin here

    def partition(self, known: KnownData) -> None:
        """The client-by-class table of training samples, as far as the server knows it, and whose data it is."""
        counts = known.class_counts
        table = {
            "run": self.run,
            "fingerprint": known.fingerprint,
            "content": known.content,
            "class-names": list(known.shape.class_names),
            "client-domains": list(known.client_domains),
            "counts": None if counts is None else counts.tolist(),
        }
        write_whole(self.path / PARTITION_FILE, json.dumps(table).encode())

    def on_round(self, report: RoundReport) -> None:
        """Append the line and push it to the disk."""
        with naming(self.path / METRICS_FILE):
            if os.fstat(self._metrics.fileno()).st_nlink == 0:  # deleted: nobody would ever read the line
                raise FileNotFoundError(ENOENT, "the run's folder was deleted while it went on")
            self._metrics.write(json.dumps(report.line(), allow_nan=False) + "\n")
            self._metrics.flush()
            os.fsync(self._metrics.fileno())

    def models(
        self,
        model: GlobalModel,
        state: Mapping[str, Tensor],
        descriptions: Mapping[str, ModelDescription] | None = None,
    ) -> None:
        """The global model (only its head if encoders stay with clients; one file a group) and the method's tensors.

        Args:
            model: whose tensors are written.
            state: the method's tensors.
            descriptions: what `fedhpro predict` needs to know of each group's model.
        """
        of_method = HYPER_PROTOTYPES_FILE if HYPER_PROTOTYPES in state else METHOD_FILE
        if state:
            write_whole(self.path / of_method, file_content(state))
        for group in model.groups:
            if tensors := model.tensors(group):
                described = (descriptions or {}).get(group)
                name = f"model-{group}.safetensors" if group else MODEL_FILE
                write_whole(self.path / name, model_bytes(tensors, described))
                (self.path / name).with_suffix(".onnx").unlink(missing_ok=True)  # of the model before it

    def summary(self, content: Mapping[str, Any]) -> None:
        """Write the summary, the last file of a run: a folder with a summary is a finished run."""
        write_whole(self.path / SUMMARY_FILE, json.dumps(content, indent=1, allow_nan=False).encode())

    @property
    def going_on(self) -> str:
        """How to go on with the run, for the sentence that says why it stopped."""
        if not self._checkpoints:
            return "there are no checkpoints to go on from (checkpoint.every = 0): begin a new run"
        return (
            f"go on with `fedhpro run --resume {self.path}`, on a SuperLink with resume = '{self.path}' "
            "in a copy of its config.toml"
        )

    def failure(self, reason: str) -> None:
        """Write why the run stopped, in a sentence. If there is no room for it, only the exception says why."""
        with suppress(OSError):
            write_whole(self.path / FAILURE_FILE, reason.encode(errors="backslashreplace"))


def run_of(folder: Path) -> str:
    """The name by which clients find what they keep of the run; "" if it is not known."""
    return _of_partition(folder, "run")


def content_of(folder: Path) -> str:
    """Fingerprint of the samples that the run divided; "" if it is not known, as with data at the clients."""
    return _of_partition(folder, "content")


def _of_partition(folder: Path, key: str) -> str:
    """A text of partition.json; "" if an older release did not write it down, or the file is lost or damaged."""
    try:
        return str(of_json((folder / PARTITION_FILE).read_text(encoding="utf-8")).get(key, ""))
    except (OSError, ValueError, AttributeError):
        return ""


def read_rounds(folder: Path, first: int | None = None) -> list[dict[str, Any]]:
    """The complete lines of metrics.jsonl, or only the `first` of them.

    Raises:
        ConfigError: a line is damaged; the message has its number.
    """
    path = folder / METRICS_FILE
    lines = path.read_bytes().split(b"\n")[:-1][:first] if path.exists() else []
    return [round_of(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1) if line]


def round_file(folder: Path, server_round: int) -> Path:
    """The checkpoint of a round, in the folder of checkpoints."""
    return folder / f"round-{server_round}.safetensors"


def rounds_in(folder: Path) -> list[int]:
    """The rounds that a folder has checkpoints of, ascending; none if there is no folder."""
    found = (path.stem.removeprefix("round-") for path in folder.glob("round-*.safetensors"))
    return sorted(int(number) for number in found if number.isdecimal())
