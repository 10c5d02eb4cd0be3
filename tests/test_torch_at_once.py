"""Torch comes without the garbage collector where a process of the app's begins, and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SAID = "\nimport gc, sys; print('torch' in sys.modules, gc.isenabled(), gc.get_freeze_count() - began)"


def said(code: str) -> tuple[str, str, int]:
    """Of a fresh process after `code`: whether torch is there, whether the collector is on, objects frozen."""
    begin = "import gc; began = gc.get_freeze_count()\n"  # some interpreters have frozen what they begin with
    done = subprocess.run([sys.executable, "-c", begin + code + SAID], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    torch, enabled, frozen = done.stdout.splitlines()[-1].split()
    return torch, enabled, int(frozen)


@pytest.mark.parametrize(
    "code", ["import client_app.app", "import server_app.app", "from fedhpro_flwr.cli import _commands; _commands()"]
)
def test_a_process_of_the_app_leaves_torch_to_the_end(code):
    torch, enabled, frozen = said(code)
    assert (torch, enabled) == ("True", "True")
    assert frozen > 100_000


@pytest.mark.parametrize("code", ["import torch, client_app.app", "import fedhpro_flwr.config"])
def test_a_program_of_somebody_elses_keeps_its_collector_as_it_is(code):
    assert said(code) == ("True", "True", 0)


def test_a_collector_that_is_off_stays_off():
    assert said("import gc; gc.disable(); import client_app.app")[1] == "False"


def test_without_torch_the_collector_is_on_again():
    broken = "import sys; sys.modules['torch.version'] = None\ntry: import client_app.app\nexcept ImportError: pass"
    torch, enabled, frozen = said(broken)
    assert (torch, enabled, frozen) == ("False", "True", 0)
