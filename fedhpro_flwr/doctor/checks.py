"""All checks, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from fedhpro_flwr.doctor import (
    clock,
    key_files,
    machine,
    places,
    ports,
    samples,
    superlink,
    surroundings,
    tls,
    versions,
)
from fedhpro_flwr.doctor.deadline import within
from fedhpro_flwr.doctor.finding import Finding, problem
from fedhpro_flwr.doctor.subject import Subject

Check = Callable[[Subject], Finding | None]

LIMIT = 60.0  # seconds that a check may take; those that use the network have shorter limits of their own
DATA_LIMIT = 600.0  # seconds for the data, as decoding many pictures takes long

CHECKS: tuple[Check, ...] = (
    versions.python_version,
    versions.packages,
    versions.torch_imports,
    machine.gpu,
    machine.memory,
    places.results_folder,
    places.state_folder,
    places.flower_folder,
    samples.node_config,
    samples.data,
    ports.port,
    superlink.reached,
    superlink.flower_version,
    superlink.control_api,
    tls.handshake,
    clock.clock,
    key_files.root_certificates,
    key_files.certificate,
    key_files.private_key,
    surroundings.variables,
    surroundings.flower_commands,
    surroundings.http_proxy,
    surroundings.other_app,
)


def examine(subject: Subject, checks: tuple[Check, ...] = CHECKS) -> Iterator[Finding]:
    """The findings, one by one as the checks end. A check that fails with an exception counts as a problem."""
    for check in checks:
        name = check.__name__.replace("_", " ")
        limit = DATA_LIMIT if check is samples.data else LIMIT
        try:
            finding = within(limit, partial(check, subject))
        except TimeoutError as error:
            finding = problem(name, str(error), "see what hangs: a network disk, a name server, a driver")
        except Exception as error:
            finding = problem(name, f"{type(error).__name__}: {error}", "mend what this names and ask again")
        if finding is not None:
            yield finding
