"""What `fedhpro doctor` finds at the other end of the wire: each finding made to happen on loopback."""

import re
import socket
import sys
import time
from datetime import timedelta
from http.client import BadStatusLine

import pytest

from fedhpro_flwr.certificates import make_certificates
from fedhpro_flwr.doctor import contact, tls
from fedhpro_flwr.doctor.clock import clock
from fedhpro_flwr.doctor.contact import Answer, Contact
from fedhpro_flwr.doctor.finding import Level
from fedhpro_flwr.doctor.subject import Subject
from fedhpro_flwr.doctor.superlink import control_api, flower_version, reached
from fedhpro_flwr.settings.flat_keys import ConfigError

OK, WARNING, PROBLEM = Level.OK, Level.WARNING, Level.PROBLEM
BEHIND_PROXY = {("POST", "/v1/fleet/pull-messages"): 415}


def at(port, role="supernode", host="127.0.0.1", roots=None, insecure=True):
    return Subject(role=role, superlink=Contact(f"{host}:{port}", roots, insecure=insecure))


@pytest.mark.parametrize(
    "address", ["", "host", ":8000", "host:", "http://host:8000", "host:0", "host:65536", "host:x"]
)
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(ConfigError, match="write it as HOST:PORT"):
        Contact(address)


def test_addresses_that_are_some():
    assert (Contact("[::1]:8000").host, Contact("[::1]:8000").port) == ("::1", 8000)
    assert (Contact("fl.example.org:443").host, Contact("fl.example.org:443").port) == ("fl.example.org", 443)


def test_a_superlink_is_reached(serve):
    finding = reached(at(serve()))
    assert finding.level is OK
    assert "proxy" not in finding.found


def test_a_superlink_behind_a_proxy_is_reached_through_the_fleet_api(serve):
    finding = reached(at(serve(BEHIND_PROXY)))
    assert finding.level is OK
    assert "behind a proxy that shows the Fleet API alone" in finding.found


@pytest.mark.parametrize(
    ("other", "insecure", "sentence"),
    [
        (404, True, "is no SuperLink of flwr 1.40 or later (HTTP 404)"),
        (502, True, "the SuperLink behind it does not (HTTP 502)"),
        (503, True, "the SuperLink behind it does not (HTTP 503)"),
        (504, True, "the SuperLink behind it does not (HTTP 504)"),
        (400, True, "wants TLS"),
    ],
)
def test_something_else_answers(serve, other, insecure, sentence):
    finding = reached(at(serve({}, other), insecure=insecure))
    assert finding.level is PROBLEM
    assert sentence in finding.found


def test_nothing_listens(unused):
    finding = reached(at(unused()))
    assert finding.level is PROBLEM
    assert "start the SuperLink or its proxy" in finding.advice


def test_a_superlink_need_not_run_yet_where_it_is_to_run(unused):
    finding = reached(at(unused(), role="superlink"))
    assert finding.level is OK
    assert "none runs" in finding.found


def test_a_name_nobody_knows():
    finding = reached(at(8000, host="no-such-host.invalid"))
    assert finding.level is PROBLEM
    assert "correct the name no-such-host.invalid" in finding.advice


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(113, "No route to host"), "No route to host"),
        (BadStatusLine("SSH-2.0"), "SSH-2.0"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_what_went_wrong_is_told_and_never_an_empty_sentence(error, said):
    subject = at(8000)
    vars(subject.superlink)["hello"] = error
    finding = reached(subject)
    assert (finding.level, finding.found) == (PROBLEM, f"127.0.0.1:8000: {said}")


def test_a_server_that_never_answers_costs_one_time_limit(monkeypatch):
    monkeypatch.setattr(contact, "TIMEOUT", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        subject = at(silent.getsockname()[1])
        began = time.monotonic()
        finding = reached(subject)
        others = [flower_version(subject), control_api(subject), clock(subject), tls.handshake(subject)]
        assert time.monotonic() - began < 2
    assert finding.level is PROBLEM
    assert "firewall" in finding.advice
    assert others == [None] * 4


def test_plain_http_where_tls_is_expected_and_the_other_way_round(serve, trial):
    finding = reached(at(serve(), insecure=False))
    assert finding.level is PROBLEM
    assert "it speaks no TLS" in finding.advice
    finding = reached(at(serve(tls=trial), insecure=True))
    assert finding.level is PROBLEM
    assert "leave --insecure out" in finding.advice


def test_without_a_superlink_nothing_is_asked():
    assert [check(Subject()) for check in (reached, flower_version, control_api, clock, tls.handshake)] == [None] * 5


@pytest.mark.parametrize(
    ("release", "level"),
    [("1.41.7", OK), ("1.42.0", WARNING), ("1.40.0", PROBLEM), ("1.43.0", PROBLEM), ("2.41.0", PROBLEM)],
)
def test_the_release_of_flower(serve, monkeypatch, release, level):
    monkeypatch.setattr("fedhpro_flwr.doctor.superlink.version", lambda _: "1.41.0")
    finding = flower_version(at(serve(release=release)))
    assert finding.level is level
    assert finding.found == f"1.41.0 here, {release} at the SuperLink"
    assert ("pip install" in finding.advice) == (level is PROBLEM)


@pytest.mark.parametrize("body", [b"[1]", b"no JSON", b""])
def test_a_description_that_is_no_json_object_tells_no_release(body):
    assert Answer(200, {}, body, at=0.0).json() == {}


def test_a_proxy_hides_the_release_and_the_control_api(serve):
    subject = at(serve(BEHIND_PROXY), host="localhost")
    assert "does not show its own" in flower_version(subject).found
    finding = control_api(subject)
    assert finding.level is OK
    assert "cannot be reached" in finding.found


def test_an_open_control_api_is_a_warning_but_on_loopback(serve, monkeypatch):
    port = serve()
    assert control_api(at(port)).level is OK
    monkeypatch.setattr("fedhpro_flwr.doctor.superlink.LOOPBACK", ())
    finding = control_api(at(port))
    assert finding.level is WARNING
    assert "whoever reaches it can run code on every node" in finding.found


@pytest.mark.parametrize(
    ("ahead", "level", "found"),  # of the server
    [
        (0, OK, r"[01] s (ahead of|behind) the SuperLink's"),
        (20, OK, r"(19|20|21) s behind the SuperLink's"),
        (-20, PROBLEM, r"(19|20|21) s ahead of the SuperLink's; node authentication fails from 5 s ahead or 305 s"),
        (-4, WARNING, r"[345] s ahead of the SuperLink's; node authentication fails from 5 s on"),
        (40, PROBLEM, r"(39|40|41) s behind the SuperLink's"),
        (-4000, PROBLEM, r"(3999|4000|4001) s ahead of"),
    ],
)
def test_the_clock(serve, ahead, level, found):
    finding = clock(at(serve(ahead=ahead)))
    assert finding.level is level
    assert re.match(found, finding.found)


@pytest.mark.parametrize(
    ("ahead", "level", "found"),  # of this machine
    [
        (0.0, OK, "0 s behind the SuperLink's"), (2.5, OK, "2 s ahead of the SuperLink's"),
        (2.75, WARNING, "3 s ahead of"), (5.0, WARNING, "5 s ahead of"), (5.25, PROBLEM, "5 s ahead of"),
        (-30.0, OK, "30 s behind the SuperLink's"), (-30.25, PROBLEM, "30 s behind the SuperLink's; "),
    ],
)  # fmt: skip
def test_the_clock_is_compared_with_the_middle_of_the_second_that_the_superlink_tells(ahead, level, found):
    subject = at(8000)
    date = {"date": "Sun, 06 Nov 1994 08:49:37 GMT"}
    vars(subject.superlink)["hello"] = Answer(200, date, b"", at=784111777.5 + ahead)
    finding = clock(subject)
    assert finding.level is level and finding.found.startswith(found)


def test_a_superlink_that_tells_no_time_is_no_finding():
    subject = at(8000)
    vars(subject.superlink)["hello"] = Answer(200, {}, b"", at=0.0)
    assert clock(subject) is None


def test_the_limits_of_the_clock_are_flowers():
    from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_TOLERANCE

    from fedhpro_flwr.doctor.clock import MOST_AHEAD, MOST_BEHIND

    assert (MOST_AHEAD, MOST_BEHIND) == (SYSTEM_TIME_TOLERANCE, SYSTEM_TIME_TOLERANCE + TIMESTAMP_TOLERANCE)


def test_plain_http_shows_no_certificate_to_look_at(serve):
    assert tls.handshake(at(serve())) is None


def test_tls_is_trusted_by_the_right_name_and_authority(serve, trial):
    finding = tls.handshake(at(serve(tls=trial), host="localhost", roots=trial / "ca.crt", insecure=False))
    assert finding.level is OK
    assert "364 days left" in finding.found


def test_tls_without_the_ca(serve, trial):
    finding = tls.handshake(at(serve(tls=trial), insecure=False))
    assert finding.level is PROBLEM
    assert "name the CA's certificate as root-certificates, here and " in finding.advice


def test_tls_with_another_ca(serve, trial, tmp_path):
    make_certificates(tmp_path / "other", ["a"], nodes=1, days=1)
    finding = tls.handshake(at(serve(tls=trial), roots=tmp_path / "other" / "ca.crt", insecure=False))
    assert finding.level is PROBLEM
    assert "ca.crt is another CA's" in finding.advice


@pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="Python 3.13 trusts a server's own certificate where it is told to"
)
def test_tls_with_the_servers_own_certificate_in_the_place_of_the_cas(serve, trial):
    finding = tls.handshake(at(serve(tls=trial), host="localhost", roots=trial / "server.crt", insecure=False))
    assert finding.level is PROBLEM
    assert "server.crt is the server's own" in finding.advice


def test_tls_by_a_name_the_certificate_does_not_hold(serve, issue):
    folder = issue(["fl.example.org", "10.1.2.3"])
    finding = tls.handshake(at(serve(tls=folder), roots=folder / "ca.crt", insecure=False))
    assert finding.level is PROBLEM
    assert finding.advice == "connect by a name it holds (fl.example.org, 10.1.2.3), or have one issued for 127.0.0.1"


@pytest.mark.parametrize(
    ("until", "level", "found"),
    [
        (timedelta(minutes=-5), PROBLEM, "certificate has expired"),
        (timedelta(days=10), WARNING, "127.0.0.1 is the server's name, its certificate is trusted; 9 days left"),
    ],
)
def test_tls_with_a_certificate_that_ends(serve, issue, until, level, found):
    folder = issue(["127.0.0.1"], until)
    finding = tls.handshake(at(serve(tls=folder), roots=folder / "ca.crt", insecure=False))
    assert finding.level is level
    assert found in finding.found
    assert "renew it" in finding.advice


def test_a_file_of_certificates_that_holds_none(serve, trial, tmp_path):
    (tmp_path / "ca.crt").write_text("nothing")
    finding = tls.handshake(at(serve(tls=trial), roots=tmp_path / "ca.crt", insecure=False))
    assert finding.level is PROBLEM
    assert "name a PEM file" in finding.advice
