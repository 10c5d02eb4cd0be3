"""What a client keeps between rounds, in files on its own machine: the part of its model that does not travel, and what
the method remembers (SCAFFOLD its control variate, MOON its last model).

Flower's node state loses what is above some 60 MB, and everything when a SuperNode restarts; a file loses nothing.

    <folder>/<run>/client-<partition>/round-<r>.safetensors      written after round r

Kept are those that a server may still ask for when it is resumed (kept_rounds.py): two or three in most runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from fedhpro_flwr.client.kept_rounds import checkpoints_before, needed
from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.records import Task
from fedhpro_flwr.runs.round_files import file_content, in_own_memory, round_file, rounds_in
from fedhpro_flwr.whole_file import write_whole
from fedhpro_flwr.writable import refuse_unwritable_folder

RUN_NAME = re.compile("[0-9a-f]{0,32}")
MEMORY = "memory."  # prefix of what the method remembers; no tensor of a model begins with it
ATTEMPT = "attempt"  # in a file's metadata: how often the run had been resumed when it was written


def remembered(memory: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A method's memory under the names it has in the file."""
    return {f"{MEMORY}{name}": tensor for name, tensor in memory.items()}


def split_memory(kept: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The content of a file as (tensors of the model, the method's memory)."""
    model = {name: tensor for name, tensor in kept.items() if not name.startswith(MEMORY)}
    memory = {name.removeprefix(MEMORY): tensor for name, tensor in kept.items() if name.startswith(MEMORY)}
    return model, memory


@dataclass(frozen=True)
class PersonalState:
    """The files of one client in one run.

    Args:
        folder: of this client in this run; made when something is first kept.
        checkpoint_every: `checkpoint.every` of the run.
        resumed_at: the rounds after which the run was resumed so far.
    """

    folder: Path
    checkpoint_every: int = 1
    resumed_at: tuple[int, ...] = ()

    @classmethod
    def of(cls, config: RunConfig, task: Task, context: Context) -> PersonalState:
        """Under the node config's `state-path`, else `clients.state-path`, else the run's folder where it is on this
        machine (a simulation), else the user's state folder.

        Raises:
            ValueError: the run's name is none, the rounds after which it was resumed are none, or the folder that was
                named cannot be written to.
        """
        of_node = str(context.node_config.get("state-path", ""))
        named = of_node or config.clients.state_path
        if named:
            root = Path(named).expanduser()
        elif config.run_folder and Path(config.run_folder).is_dir():
            root = Path(config.run_folder) / "clients"
        else:
            root = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "fedhpro"
        if not RUN_NAME.fullmatch(task.run):
            raise ValueError(f"run = {task.run!r} is no name of a run")  # it becomes a part of a path
        folder = root / (task.run or f"run-{context.run_id}") / f"client-{task.partition_id}"
        if named:
            key = "the node config says state-path" if of_node else "clients.state-path"
            refuse_unwritable_folder(folder, f"{key} = {named!r}")
        return cls(folder, config.checkpoint.every, tuple(int(number) for number in task.resumed_at.split()))

    def before(self, server_round: int) -> dict[str, Tensor] | None:
        """What was kept after the client's last round before this one; None before its first.

        Raises:
            ValueError: the file is damaged.
        """
        for number in reversed(rounds_in(self.folder)):
            if number < server_round and self._counts(number):
                file = round_file(self.folder, number)
                try:
                    return in_own_memory(load_file(file))
                except (SafetensorError, OSError) as error:
                    raise ValueError(
                        f"{file} is damaged ({error}); delete it to go on with the state before it"
                    ) from error
        return None

    def keep(self, server_round: int, tensors: Mapping[str, Tensor]) -> None:
        """Write the state after a round, whole or not at all, and let go of what nobody can ask for any more."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = file_content(tensors, {ATTEMPT: str(len(self.resumed_at))})
        write_whole(round_file(self.folder, server_round), content)
        kept = rounds_in(self.folder)
        counting = [number for number in kept if number <= server_round and self._counts(number)]
        checkpoints = checkpoints_before(server_round, self.checkpoint_every, self.resumed_at)
        for other in set(kept) - needed(counting, server_round, checkpoints):
            round_file(self.folder, other).unlink(missing_ok=True)

    def _counts(self, server_round: int) -> bool:
        """Whether what was kept after a round belongs to the run: the server may have gone on from an earlier one."""
        try:
            with safe_open(round_file(self.folder, server_round), framework="pt") as file:
                attempt = int((file.metadata() or {}).get(ATTEMPT, 0))
        except (SafetensorError, OSError):
            return True  # it is named when it is needed
        return all(server_round <= resumed for resumed in self.resumed_at[attempt:])
