"""Where a client's own data lies, whose it is, and what the server has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from PIL import Image

from client_app.app import app as client_app
from fedhpro_flwr.client.configured_client import configured_client
from fedhpro_flwr.client.faults import in_words
from fedhpro_flwr.client.node_data import client_data, client_place, refuse_without_client, server_data
from fedhpro_flwr.config import ConfigError, RunConfig
from fedhpro_flwr.data.npz import npz
from fedhpro_flwr.data.own_format import OWN_FORMATS
from fedhpro_flwr.engine import federation
from fedhpro_flwr.introduction import Introduction
from fedhpro_flwr.records import Task, pack_task
from fedhpro_flwr.server.known_data import known_data
from fedhpro_flwr.settings.from_command_line import check_names


def nodes(path: Path | str = "", **settings: object) -> RunConfig:
    chosen = {"data__name": "npz", "data__classes": "4", "data__input_shape": "1x8x8"} | settings
    return RunConfig.parse(data__path=str(path), partition__scheme="nodes", partition__num_partitions=3, **chosen)  # type: ignore[arg-type]


def node(**config: str | int) -> Context:
    told = {name.replace("_", "-"): value for name, value in config.items()}
    return Context(run_id=1, node_id=7, node_config=told, state=RecordDict(), run_config={})  # type: ignore[arg-type]


def write(file: Path, labels: list[int], value: int = 0, **more: np.ndarray) -> Path:
    np.savez(file, x_train=np.full((len(labels), 8, 8), value, np.uint8), y_train=np.array(labels), **more)
    return file


def test_the_node_config_names_the_place(tmp_path: Path) -> None:
    mine = write(tmp_path / "mine.npz", [1] * 10, value=5)
    write(tmp_path / "client-1.npz", [2] * 10)
    data = client_data(nodes(tmp_path), 1, node(partition_id=1, data_path=str(mine)))
    assert data.train is not None and data.train.labels.unique().tolist() == [1] and len(data.train) == 8
    assert data.test is not None and int(data.test.inputs.max()) == 5 and (data.mean, data.std) == ((0.5,), (0.5,))


def test_without_it_the_folder_of_the_run_is_looked_into(tmp_path: Path) -> None:
    write(tmp_path / "client-2.npz", [3])
    (tmp_path / "client-1").mkdir()
    data = client_data(nodes(tmp_path), 2, node(partition_id=0, num_partitions=3))
    assert data.train is not None and data.train.labels.tolist() == [3] and data.test is None
    assert client_place(nodes(tmp_path), 1, node()) == tmp_path / "client-1"


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({}, r"client-1\.npz nor a folder client-1; put its data there"),
        (
            {"partition_id": 0, "data_path": "/x"},
            "holds the data of client 0 alone; start a SuperNode with partition-id=1",
        ),
        ({"data_path": "/x"}, "holds the data of a client it does not name"),
        ({"partition_id": 1, "data_path": "/no/where"}, "data-path = '/no/where', and nothing is there"),
        ({"partition_id": 1, "data_path": "here"}, "write it as a full path"),
    ],
)
def test_a_place_that_is_none(tmp_path: Path, told: dict[str, str | int], message: str) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        client_place(nodes(tmp_path), 1, node(**told))


def test_no_place_at_all() -> None:
    with pytest.raises(FileNotFoundError, match="--node-config \"partition-id=1 data-path='/place/of/its/data'\""):
        client_place(nodes(), 1, node(partition_id=1))


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({"data_path": "/x"}, "and not whose data that is; .*0 to 2"),
        ({"partition_id": 3, "data_path": "/x"}, "and partition-id = 3; .*0 to 2"),
    ],
)
def test_a_node_of_no_client_of_the_run(told: dict[str, str | int], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        refuse_without_client(nodes(), node(**told))


def test_a_node_without_data_of_its_own_can_play_any_client() -> None:
    refuse_without_client(nodes(), node())
    refuse_without_client(nodes(), node(partition_id=3))


@pytest.mark.parametrize("withhold", [False, True])
def test_where_reasons_are_withheld_no_path_leaves_the_node(withhold: bool, caplog: pytest.LogCaptureFixture) -> None:
    noise = {"model-clip": 1.0, "model-noise": 1.0, "class-clip": 1.0, "class-noise": 1.0, "withhold": True}
    given = {f"privacy.{key}": value for key, value in noise.items()} if withhold else {}
    config = RunConfig.parse(nodes().flat() | given)
    query = Message(RecordDict({"config": pack_task(config.flat(), Task(0, -1))}), dst_node_id=5, message_type="query")
    with caplog.at_level("ERROR", "flwr"):
        reply = client_app(query, node(data_path="/home/clinic/rare-disease.npz"))
    said = Introduction.unpack(reply).problem
    assert ("/home/clinic/rare-disease.npz" in said) == (not withhold)
    assert ("/home/clinic/rare-disease.npz" in caplog.text) == withhold
    assert said.endswith("in the log of its own node" if withhold else "0 to 2")


def test_the_server_tests_on_the_test_part_or_on_all_it_has(tmp_path: Path) -> None:
    assert server_data(nodes()) is None
    assert server_data(nodes(tmp_path)) is None  # the clients' data alone
    write(tmp_path / "server.npz", [0, 1, 2])
    everything = server_data(nodes(tmp_path))
    assert everything is not None and everything.test is not None and len(everything.test) == 3
    assert everything.train is None
    write(tmp_path / "server.npz", [0, 1, 2], x_test=np.ones((1, 8, 8), np.uint8), y_test=np.array([3]))
    part = server_data(nodes(tmp_path))
    assert part is not None and part.test is not None and part.test.labels.tolist() == [3]


def test_what_the_server_knows(tmp_path: Path) -> None:
    known = known_data(nodes(data__classes="cat, dog, fox"))
    assert known.shape.class_names == ("cat", "dog", "fox") and known.shape.input_shape == (1, 8, 8)
    assert (known.test, known.class_counts, known.fingerprint) == (None, None, "")
    assert known.client_domains == ("", "", "") and known.breakdown.class_groups == ()
    text = known_data(nodes(data__name="text-csv", data__input_shape="", data__text_length=9, data__vocabulary=50))
    assert (text.shape.input_shape, text.shape.vocabulary) == ((9,), 50)


def test_what_the_server_cannot_use(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.path = .*no folder on the server"):
        known_data(nodes(tmp_path / "none"))
    write(tmp_path / "server.npz", [4])
    with pytest.raises(ConfigError, match=r"server\.npz: a label is 4, but data\.classes declares 4 classes"):
        known_data(nodes(tmp_path))
    with pytest.raises(ConfigError, match=r"data\.image-size = 8: data set 'npz' does not use it"):
        known_data(nodes(data__image_size=8))
    with pytest.raises(ConfigError, match="there is none to divide"):
        federation(nodes())
    for look in (check_names, known_data):
        with pytest.raises(ConfigError, match=r"data\.name = 'digits': .*feature-folder, image-folder, npz, text-csv"):
            look(nodes(data__name="digits"))


def test_several_domains_at_a_node_are_refused_with_what_to_do_instead(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"; a node reads the folder of one domain, as an image-folder$"):
        check_names(nodes(data__name="domain-folder"))
    for domain in ("photo", "sketch"):
        (tmp_path / "PACS" / domain / "cat").mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "PACS" / domain / "cat" / "1.png")
    config = nodes(data__name="image-folder", data__classes="cat, dog")
    with pytest.raises(ValueError, match=r"PACS has no folders of classes: .* if photo is a domain, name the folder"):
        client_data(config, 1, node(partition_id=1, data_path=str(tmp_path / "PACS")))
    one = client_data(config, 1, node(partition_id=1, data_path=str(tmp_path / "PACS" / "photo")))
    assert one.train is not None and one.train.labels.tolist() == [0]


def test_known_data_of_a_divided_set_is_all_of_it() -> None:
    config = RunConfig.parse(partition__num_partitions=4)
    known, divided = known_data(config), federation(config)
    assert known.fingerprint == divided.parts.fingerprint and known.test is not None
    assert known.test.test is divided.data.test and len(known.breakdown.class_groups) == 3


def test_classes_that_no_client_trains_on_are_told() -> None:
    settings = {"partition__scheme": "shards", "partition__num_partitions": 2, "partition__classes_per_client": 2}
    config = RunConfig.parse(**settings)
    data, counts = federation(config).data, federation(config).class_counts.sum(0)
    gone = [c for c in range(10) if counts[c] == 0]
    train, test = (sum(int((split.labels == c).sum()) for c in gone) for split in (data.train, data.test))
    assert len(gone) == 6 and known_data(config).untrained == (
        f"6 of 10 classes have no training sample at any client, as {gone[0]}: their {train} training samples go to "
        f"nobody, and their {test} test samples count all the same"
    )
    assert known_data(RunConfig.parse(**settings | {"partition__num_partitions": 5})).untrained == ""
    assert known_data(nodes()).untrained == ""


def test_the_configured_client_has_its_own_data(tmp_path: Path) -> None:
    mine = write(tmp_path / "mine.npz", [1] * 10)
    model, data = configured_client(nodes(), Task(1, 0), node(partition_id=0, data_path=str(mine)))
    assert data.train is not None and len(data.train) == 8
    assert model.head.weight.shape == (4, 64)  # of the declared classes, whatever the client has
    assert model.encoder(data.encoder_inputs(data.train.inputs)).shape == (8, 64)


def test_data_of_its_own_is_not_left_aside_in_silence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data-path = '/x', but partition\.scheme = 'dirichlet' divides one data set"):
        configured_client(RunConfig.parse(), Task(1, 0), node(partition_id=0, data_path="/x"))


def test_a_reader_that_numbers_the_classes_otherwise_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "client-1.npz", [0, 1])
    names = ("rain", "sun")
    monkeypatch.setitem(OWN_FORMATS, "npz", lambda source: replace(npz(source), class_names=names))
    with pytest.raises(
        ValueError,
        match=r"^the reader of data\.name = 'npz' numbers the classes as rain, sun, data\.classes as sun, rain",
    ):
        client_data(nodes(tmp_path, data__classes="sun, rain"), 1, node())
    assert client_data(nodes(tmp_path, data__classes="rain, sun"), 1, node()).train is not None


def test_samples_of_another_shape(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, images=np.zeros((4, 8, 8, 3), np.uint8), labels=np.zeros(4, np.int64))
    with pytest.raises(ValueError, match=r"holds samples of shape 3x8x8, but data\.input-shape = '1x8x8'"):
        client_data(nodes(), 0, node(partition_id=0, data_path=str(file)))


def test_a_file_beside_a_folder_of_the_same_client_is_refused(tmp_path: Path) -> None:
    (tmp_path / "client-0.zip").touch()
    (tmp_path / "client-0").mkdir()
    config = nodes(tmp_path, data__name="image-folder")
    with pytest.raises(ValueError, match=r"holds both client-0\.zip and the folder client-0; delete or rename one"):
        client_place(config, 0, node())


def test_what_a_client_says_of_a_file_whose_name_is_no_utf8_can_be_sent() -> None:
    assert in_words("client 0", ValueError("caf\udce9.png is damaged")) == r"client 0: caf\udce9.png is damaged"
