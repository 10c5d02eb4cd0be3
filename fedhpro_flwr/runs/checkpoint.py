"""checkpoint/round-<r>.safetensors: all that the server needs to go on after round r as if it had never stopped.

Random draws are functions of (seed, round, partition, purpose), so there is no generator to save (seeding.py). What
clients keep stays with them (client/personal.py); it is found by the run's name and the visits that counted, both here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from fedhpro_flwr.exchange import GlobalModel
from fedhpro_flwr.first_difference import first_difference
from fedhpro_flwr.records import Tensors
from fedhpro_flwr.runs.read_json import of_json
from fedhpro_flwr.settings.flat_keys import ConfigError, Scalar
from fedhpro_flwr.tensor_file import file_content, read_tensors
from fedhpro_flwr.visits import Counted
from fedhpro_flwr.whole_file import write_whole

MODEL, ENCODERS, METHOD, TRACE = "model", "encoders", "method", "trace"  # first part of a tensor's name in the file
ABOUT, CHECKSUM = "about", "checksum"  # the file's metadata


@dataclass(frozen=True)
class RunSoFar:
    """A run as it begins, or as it goes on after rounds that were played."""

    run: str  # the run's name, by which clients find what they keep of it
    server_round: int = 0  # the last one that was finished; 0 before the first
    counted: Counted = field(default_factory=dict)  # each client's last visit that counted (visits.py)
    named: tuple[int, ...] = ()  # the clients that a node has named as its own
    stand_ins: Mapping[int, int] = field(default_factory=dict)  # the node that plays each client not in `named`


@dataclass(frozen=True, kw_only=True)
class About(RunSoFar):
    """What a checkpoint is of."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    settings: Mapping[str, Scalar]
    code: str  # fingerprint of the sources that wrote it
    data: str  # fingerprint of the partition; "" if clients bring their own data

    @classmethod
    def parse(cls, written: str) -> About:
        """From the file's metadata.

        Raises:
            ValueError: the metadata is not that of a checkpoint.
        """
        return TypeAdapter(cls).validate_python(of_json(written))


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The server's state after a round."""

    about: About
    shared: Tensors  # of the global model
    encoders: Mapping[str, Tensors] = field(default_factory=dict)  # by group
    method: Tensors = field(default_factory=dict)  # as `Method.saved` gives it
    trace: Tensors = field(default_factory=dict)  # the prototypes of the rounds so far (prototype_trace.py)

    def write(self, path: Path) -> None:
        """Whole or not at all."""
        named = {f"{MODEL}/{name}": tensor for name, tensor in self.shared.items()}
        named |= {f"{METHOD}/{name}": tensor for name, tensor in self.method.items()}
        named |= {f"{TRACE}/{name}": tensor for name, tensor in self.trace.items()}
        for group, encoder in self.encoders.items():
            named |= {f"{ENCODERS}/{group}/{name}": tensor for name, tensor in encoder.items()}
        about = json.dumps(asdict(self.about))
        write_whole(path, file_content(named, {ABOUT: about, CHECKSUM: checksum(about, named)}))

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """The inverse of `write`.

        Raises:
            PermissionError: it may not be read.
            ValueError: the file is damaged or no checkpoint; the message names it.
        """
        try:
            path.open("rb").close()  # safetensors says that a file is missing, whatever keeps it from opening it
            tensors, metadata = read_tensors(path)
            if checksum(metadata[ABOUT], tensors) != metadata[CHECKSUM]:
                raise ValueError("its checksum is wrong")
            for name, tensor in tensors.items():  # a method's state may hold anything
                if not name.startswith(f"{METHOD}/") and not torch.isfinite(tensor).all():
                    raise ValueError(f"{name} is not finite")
            return cls.of(About.parse(metadata[ABOUT]), tensors)
        except PermissionError:
            raise
        except (ValidationError, KeyError) as error:
            raise ValueError(f"{path} is damaged (it is no checkpoint, or one of another release)") from error
        except (SafetensorError, OSError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({error})") from error

    @classmethod
    def of(cls, about: About, tensors: Tensors) -> Checkpoint:
        """From tensors under their names in the file."""
        parts: dict[str, dict[str, Tensor]] = {MODEL: {}, METHOD: {}, TRACE: {}}
        encoders: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            part, _, rest = name.partition("/")
            if part == ENCODERS:
                group, _, rest = rest.partition("/")
                encoders.setdefault(group, {})[rest] = tensor
            else:
                parts[part][rest] = tensor
        return cls(about, parts[MODEL], encoders, parts[METHOD], parts[TRACE])

    def model(self, start: GlobalModel) -> GlobalModel:
        """The global model after the round.

        Args:
            start: the one before round 1, for the groups of the clients and the order of the tensors.

        Raises:
            ConfigError: the checkpoint has other tensors.
        """
        encoders = {group: self._like(each, self.encoders.get(group, {})) for group, each in start.encoders.items()}
        return GlobalModel(self._like(start.shared, self.shared), encoders, start.members)

    def _like(self, start: Tensors, found: Tensors) -> Tensors:
        if difference := first_difference(start, found):
            raise ConfigError(
                f"the checkpoint of round {self.about.server_round} is of another model: {difference}; begin a new run"
            )
        return {name: found[name] for name in start}


def checksum(about: str, tensors: Tensors) -> str:
    """A hash over every bit: safetensors itself notices a file that is cut short, but not a bit that was flipped."""
    digest = hashlib.blake2b(about.encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
