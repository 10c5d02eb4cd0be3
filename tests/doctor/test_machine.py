"""Versions, GPU, memory and surroundings as `fedhpro doctor` finds them, each finding made to happen."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from packaging.requirements import Requirement

from fedhpro_flwr.doctor import machine, surroundings, versions
from fedhpro_flwr.doctor.contact import Contact
from fedhpro_flwr.doctor.finding import Level
from fedhpro_flwr.doctor.subject import Subject

OK, WARNING, PROBLEM = Level.OK, Level.WARNING, Level.PROBLEM
GB = machine.GB


def test_python(monkeypatch):
    assert versions.python_version(Subject()).level is OK
    monkeypatch.setattr(versions.platform, "python_version", lambda: "3.10.4")
    finding = versions.python_version(Subject())
    assert (finding.level, finding.found) == (PROBLEM, "3.10.4, but fedhpro-flwr needs >=3.11")


def test_what_is_asked_for():
    names = {requirement.name for requirement in versions.required(Subject())}
    assert {"flwr", "ray", "torch", "torchvision", "numpy", "pydantic"} <= names
    assert not names & {"pytest", "mypy", "transformers"}  # of the extras
    assert names - {requirement.name for requirement in versions.required(Subject("supernode"))} == {"ray"}


@pytest.mark.parametrize(
    ("here", "found"),
    [
        ({"flwr": "1.41.0", "torch": "2.14.1+cpu"}, "flwr 1.41.0, torch 2.14.1+cpu"),
        ({"flwr": "1.40.0", "torch": "2.14.1+cpu"}, "flwr is 1.40.0, <1.42,>=1.41.0 is asked for"),
        ({"flwr": "1.41.0"}, "torch is missing"),
        ({}, "flwr is missing; torch is missing"),
    ],
)
def test_packages(monkeypatch, here, found):
    def version(name):
        if name not in here:
            raise versions.PackageNotFoundError(name)
        return here[name]

    monkeypatch.setattr(versions, "version", version)
    wanted = [Requirement("flwr[simulation]>=1.41.0,<1.42"), Requirement("torch>=2.14")]
    monkeypatch.setattr(versions, "required", lambda _: wanted)
    finding = versions.packages(Subject())
    assert finding.found == found
    assert finding.level is (OK if len(here) == 2 and here["flwr"] == "1.41.0" else PROBLEM)
    assert finding.advice in ("", "run `pip install fedhpro-flwr` in this environment")  # --upgrade would ask an index


def test_packages_of_a_project_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(versions, "PROJECT", "no-such-project")
    assert versions.packages(Subject()).level is WARNING
    assert versions.python_version(Subject()).level is OK


def test_a_torch_that_does_not_import(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(__version__="0.29.1"))  # the real one takes seconds
    assert versions.torch_imports(Subject()).level is OK
    monkeypatch.setitem(sys.modules, "torchvision", None)
    finding = versions.torch_imports(Subject())
    assert finding.level is PROBLEM
    assert "install torch and torchvision together" in finding.advice


@pytest.fixture
def card(monkeypatch, tmp_path):
    """Pretend: `card(driver=, built_for=, free=, hidden=)`."""

    def pretend(*, driver=True, built_for="13.0", free=None, hidden=None):
        path = tmp_path / "driver"
        if driver:
            path.write_text("NVRM version")
        monkeypatch.setattr(machine, "DRIVER", path)
        monkeypatch.setattr(torch.version, "cuda", built_for)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: free is not None)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA T4")
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 16 * GB))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if hidden is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)

    return pretend


@pytest.mark.parametrize(
    ("pretended", "level", "found"),
    [
        ({"free": 15 * GB}, OK, "NVIDIA T4 (15.0 of 16.0 GB free)"),
        ({"free": GB}, WARNING, "NVIDIA T4 (1.0 of 16.0 GB free)"),
        ({"driver": False}, OK, "none; everything runs on the CPU"),
        ({"built_for": None}, PROBLEM, "was built without CUDA"),
        ({"hidden": ""}, WARNING, "hidden by CUDA_VISIBLE_DEVICES"),
        ({}, PROBLEM, "torch's CUDA 13.0 does not start"),
    ],
)
def test_the_gpu(card, pretended, level, found):
    card(**pretended)
    finding = machine.gpu(Subject())
    assert finding.level is level
    assert found in finding.found


@pytest.mark.parametrize(("flags", "said"), [("fpu avx512_bf16 sse", True), ("fpu avx512f sse", False), (None, False)])
def test_without_a_gpu_a_processor_with_bfloat16_is_pointed_out(card, monkeypatch, tmp_path, flags, said):
    card(driver=False)
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    if flags:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
    assert ("local.precision" in machine.gpu(Subject()).found) is said


@pytest.mark.parametrize(
    ("role", "free", "level"),
    [
        ("simulation", 11 * GB, OK),  # eight clients and the server, 1.2 GB each
        ("simulation", 10 * GB, WARNING),
        ("simulation", GB, PROBLEM),
        ("supernode", 2 * GB, OK),
        ("supernode", GB, PROBLEM),
    ],
)
def test_the_memory(monkeypatch, role, free, level):
    monkeypatch.setattr(machine, "usable_cores", lambda: 8)
    monkeypatch.setattr(machine, "free_memory", lambda: free)
    assert machine.memory(Subject(role)).level is level


@pytest.mark.parametrize(("limit", "free"), [(str(3 * GB), 2 * GB), (str(900 * GB), 64 * GB), ("max", 64 * GB)])
def test_a_container_may_have_less_memory_than_its_machine(monkeypatch, tmp_path, limit, free):
    (tmp_path / "meminfo").write_text("MemTotal:  99 kB\nMemAvailable:  62500000 kB\n")
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "CONTAINER_MEMORY", tmp_path)
    assert machine.free_memory() == 64 * GB
    (tmp_path / "memory.max").write_text(limit + "\n")
    (tmp_path / "memory.current").write_text(f"{GB}\n")
    assert machine.free_memory() == free


def test_memory_that_cannot_be_asked_is_no_finding(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "none")
    assert machine.memory(Subject()) is None


@pytest.fixture
def clean(monkeypatch, tmp_path):
    """An environment in which nothing is set, in an empty folder."""
    names = (surroundings.NO_INSTALL, surroundings.DATA_FOLDER, "FLWR_HOME", "PYTHONPATH", "no_proxy", "NO_PROXY")
    for name in (*names, "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return monkeypatch


def test_environment_variables(clean, tmp_path):
    assert surroundings.variables(Subject()).found == "nothing set that matters"
    finding = surroundings.variables(Subject("superlink"))
    assert finding.level is WARNING
    assert "--disable-runtime-dependency-installation" in finding.advice
    clean.setenv(surroundings.NO_INSTALL, "1")
    assert surroundings.variables(Subject("superlink")).level is OK
    clean.setenv(surroundings.DATA_FOLDER, str(tmp_path / "none"))
    assert surroundings.variables(Subject()).level is PROBLEM
    (tmp_path / "none").mkdir()
    assert surroundings.variables(Subject()).found.endswith(f"FEDHPRO_DATA_DIR = {tmp_path / 'none'}")


def test_flowers_commands(clean, tmp_path):
    here = Path(sys.executable).parent
    clean.setenv("PATH", str(here))
    assert surroundings.flower_commands(Subject("superlink")).level is OK
    assert surroundings.flower_commands(Subject()) is None
    clean.setenv("PATH", str(tmp_path))
    finding = surroundings.flower_commands(Subject("supernode"))
    assert (finding.level, finding.advice.split(",")[0]) == (PROBLEM, f"put {here} first on PATH")
    (tmp_path / "flower-superexec").write_text("")
    (tmp_path / "flower-superexec").chmod(0o700)
    clean.setenv("PATH", f"{tmp_path}:{here}")
    assert surroundings.flower_commands(Subject("supernode")).level is WARNING


def test_an_http_proxy_on_the_way(clean):
    subject = Subject("supernode", Contact("fl.example.org:443"))
    assert surroundings.http_proxy(Subject("supernode")) is None
    assert surroundings.http_proxy(subject) is None
    clean.setenv("http_proxy", "http://plain:3128")
    assert surroundings.http_proxy(subject) is None
    plain = Subject("supernode", Contact("fl.example.org:8000", insecure=True))
    assert "through the HTTP proxy http://plain:3128;" in surroundings.http_proxy(plain).found
    clean.setenv("https_proxy", "http://proxy:3128")
    finding = surroundings.http_proxy(subject)
    assert finding.level is WARNING
    assert finding.advice == "add fl.example.org to NO_PROXY if it can be reached without"
    clean.setenv("no_proxy", "example.org")
    assert surroundings.http_proxy(subject) is None


def test_the_app_of_another_project(clean, tmp_path):
    assert surroundings.other_app(Subject()).level is OK
    clean.chdir(surroundings.ROOT)  # this project's own are none of another's
    assert surroundings.other_app(Subject()).level is OK
    (tmp_path / "theirs" / "client_app").mkdir(parents=True)
    (tmp_path / "single").mkdir()
    (tmp_path / "single" / "server_app.py").write_text("")
    clean.chdir(tmp_path / "theirs")
    clean.setenv("PYTHONPATH", f"{tmp_path / 'single'}:/no/such")
    finding = surroundings.other_app(Subject())
    assert finding.level is WARNING
    assert f"{tmp_path}/theirs/client_app, {tmp_path}/single/server_app would hide" in finding.found
    assert surroundings.other_app(Subject("supernode")) is None
