"""The data that the node config or the settings of a run name, read as a run would read it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fedhpro_flwr.doctor.finding import Finding, ok, problem, warning
from fedhpro_flwr.doctor.subject import Subject
from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.settings.places import DATA_PATH

if TYPE_CHECKING:
    from fedhpro_flwr.config import RunConfig


def node_config(subject: Subject) -> Finding | None:
    """`partition-id` says which client the node plays; without it the server chooses."""
    if subject.role != "supernode":
        return None
    mine, clients = subject.node_config.get("partition-id"), subject.node_config.get("num-partitions")
    if mine is None and DATA_PATH in subject.node_config:
        found = f"{DATA_PATH} without partition-id: nobody knows which client's data it is"
        return problem("node config", found, "add partition-id, another number at each node")
    if mine is None:
        advice = "start the SuperNode with --node-config 'partition-id=0', another number at each node"
        return warning("node config", "no partition-id: the server chooses which client this node plays", advice)
    if type(mine) is not int or mine < 0:
        return problem("node config", f"partition-id = {mine!r}", "it must be a whole number, 0 or larger, no quotes")
    if clients is not None and (type(clients) is not int or clients <= mine):
        found = f"partition-id = {mine}, num-partitions = {clients!r}"
        return problem("node config", found, "partition-id goes from 0 to num-partitions - 1")
    return ok("node config", ", ".join(f"{key} = {value}" for key, value in subject.node_config.items()))


def data(subject: Subject) -> Finding | None:
    """Read all of it: how many samples of which classes are there?"""
    path = str(subject.node_config.get(DATA_PATH, ""))
    if not path and not subject.settings:
        return None
    if path and not is_full(path):
        advice = f"write {DATA_PATH} as a full path, the client app runs in a directory of Flower's"
        return problem("data", f"{DATA_PATH} = {path}", advice)
    try:
        return ok("data", of_node(subject, path) if path else of_run(subject))
    except (ValueError, OSError) as error:
        return problem("data", str(error), "mend the data, or the path and settings that lead to it")


def is_full(path: str) -> bool:
    """Whether a `data-path` is one that the client app takes: it begins with / or with a home folder, ~."""
    return expanded(path).is_absolute()


def of_run(subject: Subject) -> str:
    """The data of a run, in words: one set that is divided, or each client's own.

    Raises:
        ValueError: the data, or a setting, cannot be used.
        OSError: a file is missing.
    """
    from fedhpro_flwr.client.node_data import server_data
    from fedhpro_flwr.data import load  # what follows imports torch
    from fedhpro_flwr.settings.from_command_line import prepare

    config = prepare(subject.settings, [])
    if config.partition.at_nodes and subject.role == "superlink":
        test = server_data(config)
        to_test = f"{len(test.test)} samples to test on" if test and test.test else "none here"
        return f"every client has its own, {to_test}"
    if config.partition.at_nodes:
        return of_clients(subject, config)
    found = load(config.data)
    shape = "x".join(map(str, found.input_shape))
    return (
        f"{found.name}: {len(found.train)} samples of {found.num_classes} classes to train on, "
        f"{len(found.test)} to test on, shape {shape}"
    )


def of_clients(subject: Subject, config: RunConfig) -> str:
    """The data below `data.path`, in words: that of all clients, or of the one that this node plays.

    Raises:
        ValueError, OSError: as in `of_run`.
    """
    from flwr.app import Context, RecordDict

    from fedhpro_flwr.client.node_data import client_data

    mine = subject.node_config.get("partition-id")
    clients = [mine] if isinstance(mine, int) else range(config.partition.num_partitions)
    nowhere = Context(run_id=0, node_id=0, node_config={}, state=RecordDict(), run_config={})
    held = [client_data(config, client, nowhere) for client in clients]
    sizes = sorted(len(each.train) for each in held if each.train)
    who = f"{len(held)} clients" if mine is None else f"client {mine}"
    how_many = " to ".join(map(str, dict.fromkeys((sizes[0], sizes[-1]))))
    return f"{config.data.path}: {who} with {how_many} samples to train on"


def of_node(subject: Subject, path: str) -> str:
    """A node's own data, in words. Its format is that of the settings, or else the one that its file's ending tells.

    Raises:
        ValueError: the data cannot be used, or the run would refuse this node.
        OSError: a file is missing.
    """
    from fedhpro_flwr.data.own_format import SUFFIXES, own_reader  # what follows imports torch
    from fedhpro_flwr.data.registry import refuse_unused
    from fedhpro_flwr.settings.from_command_line import prepare

    if not expanded(path).exists():
        raise FileNotFoundError(f"{DATA_PATH} = {path}, and nothing is there that this user may see")
    config = prepare(subject.settings or None, [])
    if subject.settings:
        refuse_other_run(subject, config)
    source = config.data.model_copy(update={"path": path})
    if not subject.settings:
        suffix = Path(path).suffix.lower()
        guessed = next((name for name, wanted in SUFFIXES.items() if wanted == suffix), "image-folder")
        source = source.model_copy(update={"name": guessed})
    refuse_unused(source)
    samples = own_reader(source.name)(source)
    samples.parts(source)  # raises if the samples do not have the declared shape
    train = samples.training(path)
    present = int(train.labels.bincount().count_nonzero())
    test = f", {len(samples.test)} to test on" if samples.test else ""
    return f"{path} ({source.name}): {len(train)} samples of {present} classes{test}"


def refuse_other_run(subject: Subject, config: RunConfig) -> None:
    """Check that a run takes nodes with data of their own, and this one.

    Raises:
        ValueError: the run divides one data set, or has no such client.
    """
    scheme, clients = config.partition.scheme, config.partition.num_partitions
    if not config.partition.at_nodes:
        raise ValueError(
            f"partition.scheme = {scheme!r} in {subject.settings} divides one data set that every node has, and a node "
            f"with a {DATA_PATH} is refused; leave {DATA_PATH} out, or set partition.scheme = 'nodes'"
        )
    mine = subject.node_config.get("partition-id")
    if isinstance(mine, int) and mine >= clients:
        raise ValueError(f"partition-id = {mine}, but the clients of {subject.settings} are 0 to {clients - 1}")
