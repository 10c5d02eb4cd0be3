"""What is read of a finished run."""

import json

import pytest

from fedhpro_flwr.comparison.measures import MEASURES, in_order, measure_of, read_numbers, rounds_to

CLIENTS = {"clients": 2, "accuracy": 0.75, "deviation": 0.25, "worst": 0.5, "worst_client": 1, "head": 0.7}


def line(number, accuracy, *, domains=None, received=None):
    tested = None
    if accuracy is not None:
        mean = sum(domains.values()) / len(domains) if domains else None
        tested = {
            "accuracy": accuracy, "loss": None, "head": 0.9, "medium": None, "tail": 0.1,
            "domain_accuracy": domains or {}, "mean_over_domains": mean,
        }  # fmt: skip
    return {
        "server_round": number,
        "seconds": number,
        "server_seconds": {"waiting": 9.0, "aggregation": 0.25, "matching": 0.5},
        "client_seconds": {"local-training": 2.0 * number},
        "bytes_up": {"model": 100, "class-gradients": 20},
        "bytes_down": {"model": 100},
        "clients": [],
        "method": {},
        "tested": tested,
        "received": received,
    }


def folder(path, rounds, summary):
    (path / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in rounds))
    (path / "summary.json").write_text(json.dumps({"last-round": rounds[-1]["tested"], **summary}))
    return path


def headline(best, last, mean):
    return {"best": best, "best-round": 1, "last": last, "mean-of-last-ten": mean}


def test_a_run_of_fewer_rounds_than_it_must_have_is_refused(tmp_path):
    summary = {"accuracy": headline(0.5, 0.5, 0.5), "accuracy-of": "test data", "clients-tested": CLIENTS}
    place = folder(tmp_path, [line(1, 0.5)], summary)
    assert read_numbers(place, 1).values
    with pytest.raises(ValueError, match=r"^metrics\.jsonl has 1 of 2 rounds$"):
        read_numbers(place, 2)


def test_a_run_with_a_global_model(tmp_path):
    rounds = [line(1, 0.5), line(2, None), line(3, 0.25)]
    summary = {"accuracy": headline(0.5, 0.25, 0.375), "accuracy-of": "test data", "clients-tested": CLIENTS}
    run = read_numbers(folder(tmp_path, rounds, summary))
    assert run.values == {
        "mean-of-last-ten": 37.5, "last": 25.0, "best": 50.0, "head": 90.0, "tail": 10.0,
        "clients": 75.0, "clients-deviation": 25.0, "worst-client": 50.0,
        "bytes-up": 120.0, "bytes-down": 100.0, "client-seconds": 4.0, "server-seconds": 0.75, "seconds": 2.0,
    }  # fmt: skip
    assert run.curve == [(1, 50.0), (3, 25.0)] and run.tested_on == "test data"


def test_of_a_run_that_withholds_its_epsilon_is_read_and_no_seconds_of_clients(tmp_path):
    rounds = [line(number, 0.5) | {"client_seconds": {}} for number in (1, 2)]
    summary = {"accuracy": headline(0.5, 0.5, 0.5), "accuracy-of": "test data", "clients-tested": None}
    run = read_numbers(folder(tmp_path, rounds, summary | {"privacy": {"epsilon": 7.5}}))
    assert "client-seconds" not in run.values
    assert run.values["epsilon"] == 7.5


def test_what_a_run_was_tested_on_is_read(tmp_path):
    said = {"accuracy": headline(0.5, 0.5, 0.5), "accuracy-of": "validation data", "tested-on": "validation data"}
    run = read_numbers(folder(tmp_path, [line(1, 0.5)], said | {"clients-tested": None}))
    assert (run.accuracy_of, run.tested_on, run.values["last"]) == ("validation data", "validation data", 50.0)


def test_a_run_over_domains(tmp_path):
    rounds = [line(1, 0.5, domains={"mnist": 0.75, "usps": 0.5})]
    summary = {"accuracy": headline(0.625, 0.625, 0.625), "accuracy-of": "mean over domains", "clients-tested": None}
    run = read_numbers(folder(tmp_path, rounds, summary))
    assert (run.values["domain mnist"], run.values["domain usps"], run.values["last"]) == (75.0, 50.0, 62.5)
    assert run.curve == [(1, 62.5)]
    assert "clients" not in run.values


def test_accuracies_of_the_clients_own_models_are_other_measures(tmp_path):
    rounds = [line(1, None), line(2, None, received=CLIENTS | {"accuracy": 0.5})]
    summary = {"accuracy": headline(0.75, 0.75, 0.625), "accuracy-of": "mean over clients", "clients-tested": CLIENTS}
    run = read_numbers(folder(tmp_path, rounds, summary))
    assert (run.values["own last"], run.values["own mean-of-last-ten"], run.values["own head"]) == (75.0, 62.5, 70.0)
    assert run.values["clients"] == 75.0
    assert not {"last", "best", "mean-of-last-ten", "head"} & run.values.keys()
    assert run.curve == [(1, 50.0), (2, 75.0)]


@pytest.mark.parametrize(("target", "reached"), [(50.0, 2), (50.1, 5), (0.0, 1), (90.0, None)])
def test_rounds_to_a_target_is_the_first_tested_round_at_it(target, reached):
    assert rounds_to([(1, 10.0), (2, 50.0), (3, 49.0), (5, 60.0)], target) == reached


def test_a_mean_of_equal_accuracies_is_reached_though_it_is_rounded_up():
    accuracy = 0.10027855153203342
    mean = sum([accuracy] * 10) / 10
    assert mean > accuracy and rounds_to([(2, accuracy)], mean) == 2


def test_rounds_to_a_target_of_no_round():
    assert rounds_to([], 0.0) is None


def test_measures_stand_in_order_and_name_their_panel():
    ordered = in_order(["seconds", "domain usps", "own last", "clients", "mean-of-last-ten", "domain mnist"])
    assert [measure.key for measure in ordered] == [
        "mean-of-last-ten", "own last", "clients", "seconds", "domain mnist", "domain usps",
    ]  # fmt: skip
    assert (measure_of("own domain usps").title, measure_of("own domain usps").panel) == ("usps", "accuracy by domain")
    assert not measure_of("seconds").is_tested


def test_of_costs_of_rounds_to_the_target_and_of_the_deviation_over_clients_less_is_better():
    assert [key for key, measure in MEASURES.items() if not measure.more_is_better] == [
        "clients-deviation", "rounds-to-target",
        "bytes-up", "bytes-down", "client-seconds", "server-seconds", "seconds", "epsilon", "epsilon-if-secret",
    ]  # fmt: skip
    own_tests = {key for key, measure in MEASURES.items() if measure.panel == "clients on their own test data"}
    assert own_tests == {"clients", "clients-deviation", "worst-client"}
