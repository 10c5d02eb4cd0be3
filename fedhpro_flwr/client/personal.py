"""What a client keeps between rounds, in files on its own machine: the part of its model that does not travel, and what
the method remembers (SCAFFOLD its control variate, MOON its last model).

Flower's node state loses what exceeds some 60 MB, and everything when a SuperNode restarts; a file loses nothing.

    <folder>/<run>/client-<partition>/visit-<round>-<8 hex digits>.safetensors

The server says which visit a client goes on from, and which others it may still ask for (visits.py). The files of
those and of the current visit are kept, two or three in most runs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from logging import WARNING
from pathlib import Path

from flwr.app import Context
from flwr.common.logger import log
from safetensors import SafetensorError
from torch import Tensor

from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.records import Task
from fedhpro_flwr.tensor_file import file_content, read_tensors
from fedhpro_flwr.visits import NAME
from fedhpro_flwr.whole_file import remove_abandoned, write_whole
from fedhpro_flwr.writable import refuse_unwritable_folder, users_state_folder

RUN_NAME = re.compile("[0-9a-f]{0,32}")
MEMORY = "memory."  # prefix of what the method remembers; no tensor of a model begins with it


def remembered(memory: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A method's memory under the names that it has in the file."""
    return {f"{MEMORY}{name}": tensor for name, tensor in memory.items()}


def split_memory(kept: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The content of a file as (tensors of the model, the method's memory)."""
    model = {name: tensor for name, tensor in kept.items() if not name.startswith(MEMORY)}
    memory = {name.removeprefix(MEMORY): tensor for name, tensor in kept.items() if name.startswith(MEMORY)}
    return model, memory


@dataclass(frozen=True)
class PersonalState:
    """The files of one client in one run, at one visit.

    Args:
        folder: of this client in this run; made when something is first kept.
        visit: the name of this visit.
        after: the name of the visit that it goes on from; "" for none.
        outlived: files that are not needed, and are older than the one that this visit goes on from or of a round that
            no server plays again (replies that were late again and again leave some). Others, of a process that took
            this one's place or of a resumed server's visits, are not for this one to delete.
    """

    folder: Path
    visit: str = ""
    after: str = ""
    outlived: tuple[Path, ...] = ()

    @classmethod
    def of(cls, config: RunConfig, task: Task, context: Context) -> PersonalState:
        """In the node config's `state-path`, else `clients.state-path`, else the run's folder if it is on this machine
        (a simulation), else the user's state folder.

        Raises:
            ValueError: the run or a visit has an invalid name, or the folder that was named cannot be written to.
        """
        of_node = str(context.node_config.get("state-path", ""))
        named = of_node or config.clients.state_path
        if named:
            root = expanded(named)
        elif config.run_folder and Path(config.run_folder).is_dir():
            root = Path(config.run_folder) / "clients"
        else:
            root = users_state_folder()
        if not RUN_NAME.fullmatch(task.run):
            raise ValueError(f"run = {task.run!r} is no name of a run")  # it becomes a part of a path
        for name in filter(None, (task.visit, task.after)):
            if not NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a visit")
        folder = root / (task.run or f"run-{context.run_id}") / f"client-{task.partition_id}"
        if named:
            key = "the node config says state-path" if of_node else "clients.state-path"
            refuse_unwritable_folder(folder, f"{key} = {named!r}")
        needed = {visit_file(folder, name) for name in (*task.needed.split(), task.after)}
        there = set(folder.glob(visit_file(folder, "*").name)) - needed
        own = _written(visit_file(folder, task.after)) if task.after else 0
        outlived = (file for file in there if _written(file) < own or _round_of(file) <= task.settled)
        return cls(folder, task.visit, task.after, tuple(sorted(outlived)))

    @property
    def is_missing(self) -> bool:
        """Whether there is a visit to go on from, but no file of it: nothing had to be kept, or the file is gone."""
        return bool(self.after) and not visit_file(self.folder, self.after).is_file()

    def before(self) -> dict[str, Tensor]:
        """What was kept after the visit that this one goes on from; empty if there is no such visit, or `is_missing`.

        Raises:
            ValueError: the file is damaged.
        """
        if not self.after or self.is_missing:
            return {}
        file = visit_file(self.folder, self.after)
        try:
            tensors, _ = read_tensors(file)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file} is damaged ({error}); delete it to let this client begin anew") from error
        return tensors

    def keep(self, tensors: Mapping[str, Tensor]) -> bool:
        """Write the state after this visit, whole or not at all, and delete what is no longer needed.

        Returns:
            Whether this visit began anew, because what was kept of the one before is gone.
        """
        if began_anew := self.is_missing:
            file = visit_file(self.folder, self.after)
            log(WARNING, "%s is gone, or on another machine: this client began anew", file)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(visit_file(self.folder, self.visit), file_content(tensors, {}))
        self.let_go()
        return began_anew

    def let_go(self) -> None:
        """Delete what nobody can ask for any more, and the unfinished files of processes killed while writing."""
        for file in self.outlived:
            file.unlink(missing_ok=True)
        remove_abandoned(self.folder)


def visit_file(folder: Path, name: str) -> Path:
    """Where a client keeps its state after a visit."""
    return folder / f"visit-{name}.safetensors"


def _round_of(file: Path) -> float:
    """The round of the visit that a file is of; infinity if its name is not that of a visit."""
    name = file.stem.removeprefix("visit-")
    return int(name.partition("-")[0]) if NAME.fullmatch(name) else math.inf


def _written(file: Path) -> int:
    """When the file was written, in nanoseconds; 0 if it is not there."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
