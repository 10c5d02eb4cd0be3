"""What a client keeps between rounds, in files on its own machine: the part of its model that does not travel, and what
the method remembers (SCAFFOLD its control variate, MOON its last model).

Flower's node state loses what is above some 60 MB, and everything when a SuperNode restarts; a file loses nothing.

    <folder>/<run>/client-<partition>/round-<r>.safetensors      written after round r; the last two are kept
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from fedhpro_flwr.config import RunConfig
from fedhpro_flwr.records import Task
from fedhpro_flwr.whole_file import write_whole

RUN_NAME = re.compile("[0-9a-f]{0,32}")
MEMORY = "memory."  # prefix of what the method remembers; no tensor of a model begins with it
KEPT_ROUNDS = 2  # so that a server that resumes at its last checkpoint finds what went into that round


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
    """

    folder: Path

    @classmethod
    def of(cls, config: RunConfig, task: Task, context: Context) -> PersonalState:
        """Under the node config's `state-path`, else `clients.state-path`, else the run's folder where it is on this
        machine (a simulation), else the user's state folder.

        Raises:
            ValueError: the run's name is none.
        """
        named = str(context.node_config.get("state-path", "")) or config.clients.state_path
        if named:
            root = Path(named).expanduser()
        elif config.run_folder and Path(config.run_folder).is_dir():
            root = Path(config.run_folder) / "clients"
        else:
            root = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "fedhpro"
        if not RUN_NAME.fullmatch(task.run):
            raise ValueError(f"run = {task.run!r} is no name of a run")  # it becomes a part of a path
        return cls(root / (task.run or f"run-{context.run_id}") / f"client-{task.partition_id}")

    def before(self, server_round: int) -> dict[str, Tensor] | None:
        """What was kept after the client's last round before this one; None before its first.

        Raises:
            ValueError: the file is damaged.
        """
        earlier = [number for number in self._rounds() if number < server_round]
        if not earlier:
            return None
        file = self._file(max(earlier))
        try:
            return load_file(file)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file} is damaged ({error}); delete it to go on with the state before it") from error

    def keep(self, server_round: int, tensors: Mapping[str, Tensor]) -> None:
        """Write the state after a round, whole or not at all, and let go of what is older than the last two."""
        self.folder.mkdir(parents=True, exist_ok=True)
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_whole(self._file(server_round), save(contiguous))
        earlier = [number for number in self._rounds() if number < server_round]
        for old in earlier[: 1 - KEPT_ROUNDS]:
            self._file(old).unlink(missing_ok=True)

    def _file(self, server_round: int) -> Path:
        return self.folder / f"round-{server_round}.safetensors"

    def _rounds(self) -> list[int]:
        numbers = (path.stem.removeprefix("round-") for path in self.folder.glob("round-*.safetensors"))
        return sorted(int(number) for number in numbers if number.isdecimal())
