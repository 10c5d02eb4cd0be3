"""Compares Python and the packages with what the project's metadata requires."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement  # Flower brings it
from packaging.specifiers import SpecifierSet

from fedhpro_flwr.doctor.finding import Finding, ok, problem, warning
from fedhpro_flwr.doctor.subject import Subject

PROJECT = "fedhpro-flwr"
SHOWN = ("flwr", "ray", "torch", "torchvision", "numpy", "pydantic")
INSTALL = f"run `pip install {PROJECT}` in this environment"


def python_version(subject: Subject) -> Finding | None:
    """Whether Python fits `requires-python`."""
    here, wanted = platform.python_version(), ""
    with suppress(PackageNotFoundError):  # the check `packages` tells this
        wanted = metadata(PROJECT)["Requires-Python"]
    if wanted and not SpecifierSet(wanted).contains(here, prereleases=True):
        return problem("python", f"{here}, but {PROJECT} needs {wanted}", f"make an environment with Python {wanted}")
    return ok("python", here)


def packages(subject: Subject) -> Finding | None:
    """Every required package is installed, in a version that is allowed; for a simulation Ray too."""
    wanted = required(subject)
    if not wanted:
        return warning("packages", f"{PROJECT} itself is not installed here", "run `pip install .` in its folder")
    wrong = [sentence for requirement in wanted if (sentence := _unmet(requirement))]
    if wrong:
        return problem("packages", "; ".join(wrong), INSTALL)
    asked = {requirement.name for requirement in wanted}
    return ok("packages", ", ".join(f"{name} {version(name)}" for name in SHOWN if name in asked))


def torch_imports(subject: Subject) -> Finding | None:
    """Torch and torchvision can be imported: a pair that does not fit can be installed, but fails when imported."""
    try:
        import torch
        import torchvision
    except (ImportError, OSError, RuntimeError) as error:
        return problem("torch", f"does not import: {error}", "install torch and torchvision together, from one index")
    return ok("torch", f"torch {torch.__version__} and torchvision {torchvision.__version__} import")


def required(subject: Subject) -> list[Requirement]:
    """What the project requires without its extras, and Ray for a simulation; empty if it is not installed."""
    wanted = [requirement for requirement in _requires(PROJECT) if _applies(requirement, "")]
    if wanted and subject.role == "simulation":  # only Flower says which Ray its engine works with
        wanted += [ray for ray in _requires("flwr") if ray.name == "ray" and _applies(ray, "simulation")]
    return wanted


def _unmet(requirement: Requirement) -> str:
    try:
        here = version(requirement.name)
    except PackageNotFoundError:
        return f"{requirement.name} is missing"
    if requirement.specifier.contains(here, prereleases=True):
        return ""
    return f"{requirement.name} is {here}, {requirement.specifier} is asked for"


def _requires(package: str) -> list[Requirement]:
    try:
        return [Requirement(line) for line in requires(package) or ()]
    except PackageNotFoundError:
        return []


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})
