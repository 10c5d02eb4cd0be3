"""Data that lies at the nodes, `partition.scheme = "nodes"`: every client reads its own, and the server needs none.

A client's data is at the `data-path` of its SuperNode's config. If the config has none, as in a simulation, the data is
in the folder `data.path`, and so is what the server has to test on:

    client-0, client-1, ...     a folder each, or a file: client-0.npz, client-0.csv, client-0.zip
    server                      likewise, and there may be a test part alone; may be missing

All have the format `data.name` and classes from `data.classes`. A client may have any of these classes, and any number
of samples.
"""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context

from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.data.declared import declared_classes
from fedhpro_flwr.data.own_format import SUFFIXES, OwnSamples, own_normalisation, own_reader
from fedhpro_flwr.data.registry import DataSource, refuse_unused
from fedhpro_flwr.engine import RESIDENT
from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.introduction import UNNAMED, own_partition
from fedhpro_flwr.listed import ten_of
from fedhpro_flwr.settings.places import DATA_PATH

SERVER = "server"  # the name of what the server tests on, in data.path


def client_data(config: RunConfig, partition_id: int, context: Context) -> ClientData:
    """A client's own samples, read once per process.

    Its test data is the test part of what it has; without one, `data.test-share` of each class, the same in every run.
    A client with too few samples for that has no test data.

    Raises:
        ConfigError: `data.name` is no format of own data.
        FileNotFoundError: there is nothing where the client's data should be.
        ValueError: the data cannot be used, has a class or a shape that is not declared, or is another client's.
    """
    place = client_place(config, partition_id, context)

    def read() -> ClientData:
        source, samples = _read(config, place)
        train, test = samples.parts(source)
        return ClientData(train, test, *own_normalisation(tuple(train.inputs.shape[1:])))

    return RESIDENT.get(f"data of client {partition_id}", (config.data, place), read)


def client_place(config: RunConfig, partition_id: int, context: Context) -> Path:
    """Where a client's data is.

    Raises:
        FileNotFoundError: there is none.
        ValueError: this node holds another client's data or does not say whose, or its path is relative or ambiguous.
    """
    named = str(context.node_config.get(DATA_PATH, ""))
    if named:
        refuse_other_client(partition_id, context)
        place = expanded(named)
        if not place.is_absolute():
            raise ValueError(
                f"the node config says {DATA_PATH} = {named!r}; write it as a full path, the client app "
                "runs in another folder"
            )
        if not place.exists():
            raise FileNotFoundError(f"the node config says {DATA_PATH} = {named!r}, and nothing is there")
        return place
    if not config.data.path:
        raise FileNotFoundError(
            f"its node config names no {DATA_PATH}, and there is no data.path to look into; start its SuperNode with "
            f"--node-config \"partition-id={partition_id} {DATA_PATH}='/place/of/its/data'\""
        )
    root = expanded(config.data.path)
    found = _below(root, f"client-{partition_id}", config.data.name)
    if found is None:
        file = f"client-{partition_id}{SUFFIXES.get(config.data.name, '')}"
        raise FileNotFoundError(
            f"data.path = {config.data.path!r} holds neither {file} nor a folder client-{partition_id}; "
            "put its data there"
        )
    return found


def refuse_other_client(partition_id: int, context: Context) -> None:
    """Refuse to play another client on a node that holds one client's own data.

    Raises:
        ValueError: the node is asked to play another client, or does not say whose data it holds.
    """
    mine, place = own_partition(context), context.node_config.get(DATA_PATH, "")
    if not place or mine == partition_id:
        return
    whose = "a client it does not name" if mine == UNNAMED else f"client {mine} alone"
    raise ValueError(
        f"the node that is to play it holds the data of {whose}; start a SuperNode with "
        f"partition-id={partition_id} where the data of client {partition_id} lies"
    )


def refuse_without_client(config: RunConfig, context: Context) -> None:
    """Check a node whose partition-id is none of the run's clients.

    Raises:
        ValueError: it has data of its own, and so cannot play another client.
    """
    place, mine = context.node_config.get(DATA_PATH, ""), own_partition(context)
    if place and config.partition.at_nodes:
        whose = "and not whose data that is" if mine == UNNAMED else f"and partition-id = {mine}"
        raise ValueError(
            f"its config says {DATA_PATH} = {place!r} {whose}; give it the partition-id of one of the run's clients, "
            f"0 to {config.partition.num_partitions - 1}"
        )


def server_data(config: RunConfig) -> ClientData | None:
    """What the server tests on: the test part of its own data, or all if there is no such part; None without data.

    Raises:
        ConfigError: `data.path` is no folder, or the data there cannot be used.
    """
    try:
        own_reader(config.data.name)
        refuse_unused(config.data)
        if not config.data.path:
            return None
        root = expanded(config.data.path)
        if not root.is_dir():
            raise ConfigError(
                f"data.path = {config.data.path!r} is no folder on the server; leave it out if the server has no data "
                f"and every node config names its {DATA_PATH}"
            )
        place = _below(root, SERVER, config.data.name)
        if place is None:
            return None
        source, samples = _read(config, place)
        test = samples.train if samples.test is None else samples.test
        assert test is not None  # what was read has one of both
        shape = tuple(test.inputs.shape[1:])
        source.refuse_other_shape(shape)
        return ClientData(None, test, *own_normalisation(shape))
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from error


def _read(config: RunConfig, place: Path) -> tuple[DataSource, OwnSamples]:
    source = config.data.model_copy(update={"path": str(place)})
    refuse_unused(source)
    samples = own_reader(source.name)(source)
    if (declared := declared_classes(source.classes)) and samples.class_names != declared:  # a reader of somebody's own
        raise ValueError(
            f"the reader of data.name = {source.name!r} numbers the classes as {ten_of(samples.class_names)}, "
            f"data.classes as {ten_of(declared)}; it must take the declared ones"
        )
    return source, samples


def _below(root: Path, name: str, data_format: str) -> Path | None:
    places = (root / f"{name}{SUFFIXES.get(data_format, '')}", root / name)
    found = [place for place in dict.fromkeys(places) if place.exists()]
    if len(found) > 1:
        raise ValueError(f"{root} holds both {found[0].name} and the folder {name}; delete or rename one of them")
    return found[0] if found else None
