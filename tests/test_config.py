"""Settings: every mistake gives one sentence, and what is written out comes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedhpro_flwr.config import ConfigError, RunConfig, known_keys
from fedhpro_flwr.settings.flat_keys import flatten, nest
from fedhpro_flwr.settings.presets import PAPER

NAN, INF = float("nan"), float("inf")

REFUSED = [
    ({"local.batchsize": 32}, "unknown key local.batchsize, did you mean local.batch-size?"),
    ({"local.batch_size": 32}, "unknown key local.batch_size, did you mean local.batch-size?"),
    ({"results_dir": "x"}, "unknown key results_dir, did you mean results-dir?"),
    ({"losses.temprature": "preset"}, "unknown key losses.temprature, did you mean losses.temperature?"),
    ({"zzzzzz": 1}, "unknown key zzzzzz"),
    ({"": 1}, "unknown key (empty)"),
    ({"rounds.x": 3}, "unknown key rounds.x: rounds is a value and has no keys below it"),
    (
        {"data.classes": ["a", "b"]},
        "data.classes = ['a', 'b']: a list cannot be sent; write one text, data.classes = \"a, b\"",
    ),
    ({"rounds": [3]}, "rounds = [3]: it must be a valid integer"),
    ({"method.name": ["fedavg"]}, "method.name = ['fedavg']: it must be a valid string"),
    ({"model.groups": [{"mlp": 3}]}, "model.groups = [{'mlp': 3}]: it must be a valid string"),
    ({"partition.imbalance": 0.5}, "partition.imbalance = 0.5: it must be greater than or equal to 1"),
    ({"partition.alpha": 0.0}, "partition.alpha = 0.0: it must be greater than 0"),
    ({"partition.alpha": -1}, "partition.alpha = -1: it must be greater than 0"),
    ({"partition.alpha": NAN}, "partition.alpha = nan: it must be a finite number"),
    ({"partition.num-partitions": 0}, "partition.num-partitions = 0: it must be greater than or equal to 1"),
    (
        {"partition.scheme": "x"},
        "partition.scheme = 'x': it must be 'iid', 'dirichlet', 'nid1', 'shards', 'quantity', 'domains' or 'nodes'",
    ),
    (
        {"model.groups": "cnn=4, mlp=5", "model.share": "head"},
        "model.groups gives 9 clients, but partition.num-partitions = 10; make them equal",
    ),
    ({"model.groups": "cnn"}, "model.groups = 'cnn': write it as name=count, name=count with counts from 1"),
    (
        {"hyper-prototypes.counts": "1=2, 01=3"},
        "hyper-prototypes.counts = '1=2, 01=3': write it as class=count, class=count",
    ),
    (
        {"hyper-prototypes.counts": "1=2, 0=10001"},
        "hyper-prototypes.counts = '1=2, 0=10001': a class has at most 10000 vectors",
    ),
    (
        {"hyper-prototypes.counts": "cat=3"},
        "hyper-prototypes.counts = 'cat=3': write it as class=count, class=count",
    ),
    ({"model.share": "none"}, "model.share = 'none': it must be 'all', 'group', 'head' or 'nothing'"),
    ({"data.validation-share": 1.0}, "data.validation-share = 1.0: it must be less than 1"),
    ({"partition.domain-share": 1.5}, "partition.domain-share = 1.5: it must be less than or equal to 1"),
    ({"data.vocabulary": 1}, "data.vocabulary = 1: it must be greater than or equal to 2"),
    (
        {"aggregation.model": "krum"},
        "aggregation.model = 'krum': it must be 'mean', 'median' or 'trimmed-mean'",
    ),
    ({"aggregation.trim": 0.5}, "aggregation.trim = 0.5: it must be less than 0.5"),
    ({"aggregation.clip-norm": NAN}, "aggregation.clip-norm = nan: it must be a finite number"),
    (
        {"privacy.class-noise": 1.0},
        "privacy.class-noise = 1.0 is a multiple of a norm that is not given: set privacy.class-clip",
    ),
    (
        {"privacy.model-noise": 0.5},
        "privacy.model-noise = 0.5 is a multiple of a norm that is not given: set privacy.model-clip",
    ),
    ({"privacy.noise": "none"}, "privacy.noise = 'none': it must be 'secret' or 'seeded'"),
    ({"privacy.min-samples": 0}, "privacy.min-samples = 0: it must be greater than or equal to 1"),
    ({"privacy.delta": 0.0}, "privacy.delta = 0.0: it must be greater than 0"),
    ({"rounds": "3"}, "rounds = '3': it must be a valid integer"),
    ({"rounds": 3.0}, "rounds = 3.0: it must be a valid integer"),
    ({"rounds": True}, "rounds = True: it must be a valid integer"),
    ({"rounds": 0}, "rounds = 0: it must be greater than or equal to 1"),
    ({"rounds": "preset"}, "rounds = 'preset': it must be a valid integer"),
    ({"seed": -1}, "seed = -1: it must be greater than or equal to 0"),
    ({"seed": 2**32}, "seed = 4294967296: it must be less than or equal to 4294967295"),
    ({"local.lr.x": 1}, "unknown key local.lr.x: local.lr is a value and has no keys below it"),
    ({"rounds.x": 3, "rounds": 5}, "unknown key rounds.x: rounds is a value and has no keys below it"),
    ({"local.lr": "0.1"}, "local.lr = '0.1': it must be a valid number"),
    ({"local.lr": 1e39}, "local.lr = 1e+39: it must be less than or equal to 3e+38"),
    ({"fedprox.mu": 1e39}, "fedprox.mu = 1e+39: it must be less than or equal to 3e+38"),
    ({"local.batch-size": 10**20}, f"local.batch-size = {10**20}: it must be less than or equal to 2147483648"),
    ({"data.image-size": 4097}, "data.image-size = 4097: it must be less than or equal to 4096"),
    ({"local.lr": True}, "local.lr = True: it must be a valid number"),
    ({"local.lr": INF}, "local.lr = inf: it must be a finite number"),
    ({"local.momentum": 1.0}, "local.momentum = 1.0: it must be less than 1"),
    ({"local.momentum": NAN}, "local.momentum = nan: it must be less than 1"),
    ({"local.flip": 1}, "local.flip = 1: it must be a valid boolean"),
    ({"clients.quorum": 0.0}, "clients.quorum = 0.0: it must be greater than 0"),
    ({"clients.quorum": 1.5}, "clients.quorum = 1.5: it must be less than or equal to 1"),
    ({"data.name": 3}, "data.name = 3: it must be a valid string"),
    ({"data": 3}, "data = 3: data is a section with keys of its own"),
    ({"hyper-prototypes": 1}, "hyper-prototypes = 1: hyper-prototypes is a section with keys of its own"),
    ({"local": 3, "local.lr": 0.1}, "local = 3: local is a section with keys of its own"),
    ({"experiment": "../x"}, "experiment = '../x': it must match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*$'"),
    ({"preset": "papers"}, "preset = 'papers': allowed are 'paper', 'reference', 'tuned'"),
    ({"preset": 3}, "preset = 3: allowed are 'paper', 'reference', 'tuned'"),
    ({"device": "tpu"}, "device = 'tpu': it must be 'auto', 'cpu' or 'cuda'"),
    (
        {"clients.per-round": 11},
        "clients.per-round = 11: only 10 clients exist, see partition.num-partitions",
    ),
    (
        {"partition.scheme": "nodes", "data.input-shape": "64"},
        "partition.scheme = 'nodes' needs data.classes: a client may have any of them, so no client's data names them "
        "all; write 'cat, dog, fox', or '10' for classes 0 to 9",
    ),
    (
        {"partition.scheme": "nodes", "data.classes": 10},
        "partition.scheme = 'nodes' needs data.input-shape, for the server has no sample to see it on; write "
        "'3x32x32', or '64' for vectors",
    ),
    (
        {"partition.scheme": "nodes", "data.classes": 10, "data.input-shape": 64, "data.validation-share": 0.1},
        "data.validation-share = 0.1: with partition.scheme = 'nodes' every client has its own data as it is; "
        "leave it out",
    ),
    (
        {"data.input-shape": "3x32x32", "data.image-size": 64},
        "data.input-shape = '3x32x32', but data.image-size = 64 is what pictures are resized to; make them equal",
    ),
]


def test_a_name_that_is_a_number_needs_no_quotes():
    assert RunConfig.parse({"experiment": 2024}).experiment == "2024"


@pytest.mark.parametrize(("settings", "sentence"), REFUSED, ids=[next(iter(case[0])) or "empty" for case in REFUSED])
def test_a_mistake_gives_one_sentence(settings, sentence):
    with pytest.raises(ConfigError) as refused:
        RunConfig.parse(settings)
    assert str(refused.value) == sentence


def test_two_mistakes_are_named_both():
    with pytest.raises(ConfigError, match=r"^rounds = 0: .*; local\.lr = -1: "):
        RunConfig.parse({"rounds": 0, "local.lr": -1})


@pytest.mark.parametrize("key", known_keys())
def test_every_key_refuses_a_value_of_another_kind_and_names_itself(key):
    value = RunConfig.parse({}).flat()[key]
    wrong = 3.5 if isinstance(value, str) else "three"
    with pytest.raises(ConfigError) as refused:
        RunConfig.parse({key: wrong})
    assert str(refused.value).startswith(f"{key} = {wrong!r}: ")
    assert "\n" not in str(refused.value)


def test_keyword_overrides_are_keys_too():
    config = RunConfig.parse({"rounds": 5}, rounds=3, local__batch_size=8)
    assert (config.rounds, config.local.batch_size) == (3, 8)


def test_a_number_of_classes_and_a_length_may_be_written_as_numbers():
    config = RunConfig.parse({"data.classes": 10, "data.input-shape": 64})
    assert (config.data.classes, config.data.input_shape) == ("10", "64")


counts = st.integers(1, 10**6)
positive = st.floats(1e-12, 1e12)
VALID = {
    "preset": st.sampled_from(["paper", "reference", "tuned"]),
    "seed": st.integers(0, 2**32 - 1),
    "rounds": counts,
    "experiment": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]*", fullmatch=True),
    "data.path": st.text(max_size=20),
    "data.download": st.booleans(),
    "data.test-share": st.floats(0.01, 0.99),
    "partition.scheme": st.sampled_from(["iid", "dirichlet", "nid1", "shards", "quantity", "domains"]),
    "partition.num-partitions": st.integers(10, 1000),
    "partition.alpha": positive,
    "partition.imbalance": st.floats(1, 1e6),
    "clients.per-round": st.integers(0, 10),
    "clients.quorum": st.floats(0.01, 1),
    "local.lr": positive,
    "local.epochs": counts,
    "local.momentum": st.floats(0, 0.999),
    "local.flip": st.booleans(),
    "losses.temperature": st.floats(1e-4, 1e12),
    "losses.hpal": st.sampled_from(["paper", "unit", "reference", "off", "preset"]),
    "hyper-prototypes.prototypes-per-class": st.one_of(st.integers(1, 10_000), st.just("preset")),
}


@given(st.fixed_dictionaries({}, optional=VALID))
def test_flat_is_the_inverse_of_parse(settings):
    config = RunConfig.parse(settings)
    flat = config.flat()
    assert tuple(flat) == known_keys()
    assert RunConfig.parse(flat) == config
    assert RunConfig.parse(flat).flat() == flat
    assert all(flat[key] == value for key, value in settings.items() if value != "preset" or key not in PAPER)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,4}\.[a-z]{1,4}", fullmatch=True), st.integers()))
def test_flatten_is_the_inverse_of_nest(flat):
    assert flatten(nest(flat)) == flat


@pytest.mark.parametrize(
    ("key", "most"), [("clients.threads", 1024), ("model.width", 2**20), ("evaluation.batch-size", 2**31)]
)
def test_what_a_models_file_could_not_say_is_refused_at_the_start(key, most):
    assert RunConfig.parse({key: most}).flat()[key] == most
    with pytest.raises(ConfigError, match=f"^{key} = {most + 1}: it must be less than or equal to {most}$"):
        RunConfig.parse({key: most + 1})


@pytest.mark.parametrize("kind", ["class", "model"])
def test_noise_that_hides_nothing_is_refused(kind):
    given = {f"privacy.{kind}-clip": 1.0, f"privacy.{kind}-noise": 1e-155}
    with pytest.raises(ConfigError, match=rf"^privacy\.{kind}-noise = 1e-155: so little noise hides nothing"):
        RunConfig.parse(given)
    assert RunConfig.parse(given | {f"privacy.{kind}-noise": 1e-6})
