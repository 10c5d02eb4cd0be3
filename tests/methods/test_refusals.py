"""Which method works with which part of the model shared, and with hyper-prototypes in its prototypes' place."""

import pytest

from fedhpro_flwr import methods
from fedhpro_flwr.config import ConfigError, RunConfig, Scalar
from fedhpro_flwr.methods import METHODS, Method, build_method
from fedhpro_flwr.registry import Registry
from server_app.strategy import FedHProStrategy

SHARES = ("all", "group", "head", "nothing")
WORKS_WITH = {
    "fedhpro": ("all", "group", "head"),
    "fedavg": ("all", "group", "head"),
    "fedprox": ("all", "group", "head"),
    "moon": ("all", "group"),
    "scaffold": ("all",),
    "creff": ("all", "group"),
    "fedproto": SHARES,
    "fedtgp": SHARES,
    "fedsa": SHARES,
    "averaged": SHARES,
    "fpl": SHARES,
    "local": SHARES,
}
TAKE_HYPER_PROTOTYPES = {"fedproto", "fedtgp", "fedsa"}


def test_every_method_is_in_the_table():
    ours = {name for name, found in METHODS.items() if found.__module__.startswith("fedhpro_flwr.methods.")}
    assert ours == set(WORKS_WITH)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", WORKS_WITH)
def test_what_may_be_shared(make, name, share):
    config = make.config(name, model__share=share)
    if share in WORKS_WITH[name]:
        METHODS.find(name).refuse(config)
        return
    allowed = ", ".join(map(repr, WORKS_WITH[name]))
    with pytest.raises(ConfigError) as refused:
        METHODS.find(name).refuse(config)
    assert str(refused.value) == (
        f"method.name = '{name}' does not work with model.share = '{share}', only with {allowed}"
    )


GROUPS = {"model__groups": "cnn=5, mlp=5", "partition__num_partitions": 10}
WITHHELD = {"privacy__withhold": True, "privacy__class_clip": 1.0, "privacy__class_noise": 1.0}
CANNOT_BE_AVERAGED = (
    "model.share = 'all': models of different architectures cannot be averaged; "
    "use 'group' (encoders averaged within their group), 'head' or 'nothing' (they stay with their clients)"
)
MODEL_NEEDS_NOISE = (
    "privacy.withhold = true needs noise on all that is sent, and with model.share = 'all' that is a model too: "
    "set privacy.model-clip and privacy.model-noise"
)


@pytest.fixture
def keeps_all(monkeypatch):
    """A method of somebody's own whose clients send no model, whatever `model.share` says."""
    monkeypatch.setattr(methods, "METHODS", Registry("method.name"))

    @methods.METHODS.register("mine")
    class Mine(Method):
        name = "mine"

        @classmethod
        def share_of(cls, config):
            return "nothing"

    return Mine


@pytest.mark.parametrize(("settings", "sentence"), [(GROUPS, CANNOT_BE_AVERAGED), (WITHHELD, MODEL_NEEDS_NOISE)])
def test_what_travels_decides_and_the_method_says_what_does(make, keeps_all, settings, sentence):
    for name in ("fedavg", "fedhpro"):
        with pytest.raises(ConfigError) as refused:
            METHODS.find(name).refuse(make.config(name, **settings))
        assert str(refused.value) == sentence
    METHODS.find("local").refuse(make.config("local", **settings))
    assert build_method(make.config("mine", **settings)).share == "nothing"


@pytest.mark.parametrize("name", ["fedhpro", "moon", "scaffold", "creff"])
def test_a_strategy_in_an_app_of_ones_own_is_refused_before_round_one(make, name):
    """Not when every client has failed: `fedhpro run` looks at it first, `flwr run` and library users do not."""
    share = "head" if "head" not in WORKS_WITH[name] else "nothing"
    with pytest.raises(ConfigError, match=f"^method.name = '{name}' does not work with model.share = '{share}', only"):
        FedHProStrategy(make.config(name, model__share=share))


@pytest.mark.parametrize("name", sorted(WORKS_WITH.keys() - TAKE_HYPER_PROTOTYPES))
def test_methods_without_a_place_for_hyper_prototypes(make, name):
    with pytest.raises(ConfigError) as refused:
        METHODS.find(name).refuse(make.config(name, method__prototypes="hyper"))
    assert str(refused.value) == f"method.prototypes = 'hyper' is not offered for method.name = '{name}'"


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", sorted(TAKE_HYPER_PROTOTYPES))
def test_hyper_prototypes_need_a_shared_head(make, name, share):
    config = make.config(name, method__prototypes="hyper", model__share=share)
    if share != "nothing":
        METHODS.find(name).refuse(config)
        return
    with pytest.raises(ConfigError, match=r"^method\.prototypes = 'hyper' needs a head .* not 'nothing'$"):
        METHODS.find(name).refuse(config)


@pytest.mark.parametrize("name", WORKS_WITH)
def test_a_median_of_class_means_needs_a_method_that_averages_them(make, name):
    config = make.config(name, aggregation__class_gradients="median")
    if name not in ("fedtgp", "fpl"):
        METHODS.find(name).refuse(config)
        return
    with pytest.raises(ConfigError) as refused:
        METHODS.find(name).refuse(config)
    assert str(refused.value) == (
        f"aggregation.class-gradients = 'median': method.name = '{name}' takes the clients' class means one by one and "
        "averages none; leave it at 'mean'"
    )


def test_hyper_prototypes_are_averaged_whatever_they_replace(make):
    METHODS.find("fedtgp").refuse(
        make.config("fedtgp", aggregation__class_gradients="median", method__prototypes="hyper")
    )


@pytest.mark.parametrize(
    "setting",
    [{"aggregation__model": "median"}, {"aggregation__clip_norm": 1.0}, {"aggregation__clip_to_median": True}],
)
def test_scaffold_keeps_to_its_means(make, setting):
    with pytest.raises(ConfigError, match=r"^method\.name = 'scaffold' is defined with means: leave aggregation\."):
        METHODS.find("scaffold").refuse(make.config("scaffold", **setting))
    METHODS.find("scaffold").refuse(make.config("scaffold", aggregation__drop_contrary=True))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"losses__correction": "control-variates"},
        {"method__name": "creff"},
        {"method__name": "fedproto", "method__prototypes": "hyper"},
    ],
)
def test_dsa_of_what_is_no_image_is_refused_before_the_first_round(settings):
    method = build_method(RunConfig.parse({"preset": "reference"}, **settings))
    method.refuse_data(images=True)
    with pytest.raises(ConfigError, match=r"^class-gradients\.augment = 'dsa' needs images; use 'none' for vec"):
        method.refuse_data(images=False)


WITHOUT_CALIBRATION = {"calibration.head": "off", "hyper-prototypes.matching-head": "client"}


@pytest.mark.parametrize(
    "settings",
    [
        {"method.name": "fedavg"},
        {"method.name": "fedproto"},
        {"hyper-prototypes.matching-steps": 0, **WITHOUT_CALIBRATION},
        {"hyper-prototypes.matching-steps": 0, "method.name": "fedproto", "method.prototypes": "hyper"},
    ],
)
def test_a_method_that_takes_no_class_gradients_takes_any_data(settings):
    build_method(RunConfig.parse({"preset": "reference"} | settings)).refuse_data(images=False)


@pytest.mark.parametrize("name", sorted(WORKS_WITH))
def test_augmented_vectors_are_refused_whatever_the_method(make, name):
    config = make.config(name, local__augment="per-sample")
    build_method(config).refuse_data(images=True)
    with pytest.raises(ConfigError, match=r"^local\.augment = 'per-sample' needs images; use 'none' for vec"):
        build_method(config).refuse_data(images=False)


DISAGREE: list[tuple[dict[str, Scalar], str]] = [
    (
        {"losses.margin-pairs": "far", "losses.margin": "inner"},
        "losses.margin-pairs = 'far' needs losses.margin = 'l2' or 'l2-unit' and losses.hpcl = 'paper'",
    ),
    (
        {"losses.margin-pairs": "far", "losses.hpcl": "reference"},
        "losses.margin-pairs = 'far' needs losses.margin = 'l2' or 'l2-unit' and losses.hpcl = 'paper'",
    ),
    (
        {"losses.margin-schedule": "ramp", "losses.hpcl": "off"},
        "losses.margin-schedule = 'ramp' needs a margin: losses.margin is 'l2-unit' and losses.hpcl is 'off'",
    ),
    (
        {"losses.margin-schedule": "ramp", "losses.margin": "none"},
        "losses.margin-schedule = 'ramp' needs a margin: losses.margin is 'none' and losses.hpcl is 'paper'",
    ),
    (
        {"calibration.head": "separate", "model.share": "head"},
        "calibration.head = 'separate' keeps a head for the server's test, and with model.share = 'head' "
        "there is no global model to test; use 'replace' or 'off'",
    ),
    (
        {"calibration.head": "replace", "calibration.from-imbalance": 5.0, "calibration.first-head": "fresh"},
        "calibration.from-imbalance = 5.0 waits for the clients' class counts, until then the head must be the model's "
        "own: calibration.first-head = 'model'",
    ),
    (
        {"hyper-prototypes.matching-head": "calibrated"},
        "hyper-prototypes.matching-head = 'calibrated' needs calibration.head = 'replace' or 'separate'",
    ),
    (
        {"preset": "reference", "calibration.head": "off"},
        "hyper-prototypes.matching-head = 'calibrated' needs calibration.head = 'replace' or 'separate'",
    ),
    (
        {
            "privacy.withhold": True,
            "privacy.model-clip": 1.0,
            "privacy.model-noise": 1.0,
            "calibration.head": "replace",
            "calibration.from-imbalance": 5.0,
            "calibration.first-head": "model",
            "privacy.class-clip": 1.0,
            "privacy.class-noise": 1.0,
        },
        "privacy.withhold = true: calibration.from-imbalance = 5.0 waits for class counts that are withheld; "
        "set it to 0",
    ),
]


@pytest.mark.parametrize(("settings", "sentence"), DISAGREE)
def test_settings_of_fedhpro_that_do_not_agree(settings, sentence):
    with pytest.raises(ConfigError) as refused:
        build_method(RunConfig.parse(settings))
    assert str(refused.value) == sentence


def test_a_calibration_that_waits_for_no_counts_works_where_they_are_withheld():
    waiting, _ = DISAGREE[-1]
    build_method(RunConfig.parse(waiting | {"calibration.from-imbalance": 0.0}))


@pytest.mark.parametrize("settings", [settings for settings, _ in DISAGREE])
@pytest.mark.parametrize("name", ["fedavg", "fedproto", "local"])
def test_a_method_that_does_not_read_them_is_not_refused_for_them(name, settings):
    """In a grid the other rows' settings stand beside it."""
    build_method(RunConfig.parse(settings | {"method.name": name}))


def test_averaged_prototypes_read_the_margins_alone():
    build_method(RunConfig.parse({"method.name": "averaged", "hyper-prototypes.matching-head": "calibrated"}))
    with pytest.raises(ConfigError, match=r"^losses\.margin-schedule = 'ramp' needs a margin"):
        build_method(RunConfig.parse(method__name="averaged", losses__margin_schedule="ramp", losses__margin="none"))
