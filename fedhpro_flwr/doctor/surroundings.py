"""What else can interfere: environment variables, an HTTP proxy, another project's app."""

from __future__ import annotations

import os
import shutil
import sys
import urllib.request
from pathlib import Path

from fedhpro_flwr.doctor.finding import Finding, ok, problem, warning
from fedhpro_flwr.doctor.subject import Subject
from fedhpro_flwr.home_folder import expanded

NO_INSTALL = "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"
DATA_FOLDER = "FEDHPRO_DATA_DIR"
APPS = ("client_app", "server_app")
ROOT = Path(__file__).resolve().parents[2]  # holds this project's own apps


def variables(subject: Subject) -> Finding | None:
    """Environment variables that change what Flower and the apps do."""
    folder = os.environ.get(DATA_FOLDER, "")
    if folder and not expanded(folder).is_dir():
        return problem("environment", f"{DATA_FOLDER} = {folder} is no folder", f"correct or unset {DATA_FOLDER}")
    if subject.role == "superlink" and os.environ.get(NO_INSTALL) != "1":
        return warning(
            "environment",
            f"{NO_INSTALL} is not 1: a SuperLink installs an app's packages before each run, torch too",
            f"start the SuperLink with --disable-runtime-dependency-installation, or with {NO_INSTALL}=1",
        )
    said = [f"{name} = {os.environ[name]}" for name in ("FLWR_HOME", NO_INSTALL, DATA_FOLDER) if os.environ.get(name)]
    return ok("environment", ", ".join(said) or "nothing set that matters")


def flower_commands(subject: Subject) -> Finding | None:
    """SuperLinks and SuperNodes start Flower's commands by name, so these must be on PATH."""
    if subject.role == "simulation":
        return None  # `fedhpro run` puts them there
    here, found = Path(sys.executable).parent, shutil.which("flower-superexec")
    put_first = f"put {here} first on PATH, also in a service's settings"
    if found is None:
        return problem("flower commands", "flower-superexec is not on PATH, and Flower starts it by name", put_first)
    if Path(found).parent != here:
        return warning("flower commands", f"PATH leads to {found}, in another environment than {here}", put_first)
    return ok("flower commands", found)


def http_proxy(subject: Subject) -> Finding | None:
    """Flower's messages go through the system's HTTP proxy if one is set and the host is not excepted."""
    link = subject.superlink
    if link is None:
        return None
    named = urllib.request.getproxies().get("http" if link.insecure else "https", "")
    if not named or urllib.request.proxy_bypass(link.host):
        return None
    found = f"Flower reaches {link.host} through the HTTP proxy {named}; the checks above did not"
    return warning("http proxy", found, f"add {link.host} to NO_PROXY if it can be reached without")


def other_app(subject: Subject) -> Finding | None:
    """A `client_app` or `server_app` of another project, which Ray's processes would import in place of this one's."""
    if subject.role == "supernode":
        return None  # a deployed node's processes find the app that they were sent first on their path
    searched = [Path.cwd(), *(Path(part) for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part)]
    foreign = [
        place / app
        for place in dict.fromkeys(path.resolve() for path in searched)
        for app in APPS
        if place != ROOT and ((place / app).is_dir() or (place / f"{app}.py").is_file())
    ]
    if not foreign:
        return ok("other app", f"no {' or '.join(APPS)} of another project in {Path.cwd()} or on PYTHONPATH")
    advice = "use `fedhpro run`, or start the SuperLink in an empty folder and without PYTHONPATH"
    return warning("other app", f"{', '.join(map(str, foreign))} would hide this project's", advice)
