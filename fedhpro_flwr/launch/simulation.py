"""`flwr run` in Flower's simulation engine, but with a SuperLink for this run alone and an error if the run failed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from fedhpro_flwr.config import Scalar
from fedhpro_flwr.launch.flower import LaunchError
from fedhpro_flwr.launch.following import follow
from fedhpro_flwr.launch.log_file import LogFile
from fedhpro_flwr.launch.private_superlink import PrivateSuperLink
from fedhpro_flwr.launch.submitted_run import submit
from fedhpro_flwr.launch.termination import in_order

PATIENCE = 60.0  # seconds that a living SuperLink may take to answer, on a machine that is busy with the run


def simulate(settings: Mapping[str, Scalar], *, num_nodes: int, log_file: Path, gpus: float = 0.0) -> None:
    """Run the app in Flower's simulation engine and wait for its end. Ctrl-C and SIGTERM leave nothing of it behind.

    Args:
        settings: the complete run config.
        num_nodes: simulated SuperNodes.
        log_file: receives everything Flower, Ray and the apps print.
        gpus: share of a GPU for each client process; 0 keeps them on the CPU.

    Raises:
        LaunchError: the run failed; the message has the reason, and where the log lies.
        SystemExit: SIGTERM, after the simulation was ended.
    """
    engine = f"num-supernodes={num_nodes} client-resources-num-cpus=1 client-resources-num-gpus={gpus}"
    with in_order():
        home = Path(tempfile.mkdtemp(prefix="fedhpro-"))
        superlink = PrivateSuperLink(home, log_file)
        try:
            with superlink as flower, LogFile(log_file) as log:
                run = submit(flower, settings, engine)
                status = follow(run, log.write, check=superlink.check, patience=PATIENCE)
        except LaunchError as error:  # home is not deleted: its files may tell why the run could not be followed
            raise LaunchError(f"{error} (log: {log_file})") from None
        except BaseException:
            shutil.rmtree(home, ignore_errors=True)
            raise
        shutil.rmtree(home, ignore_errors=True)
    if not status.completed:
        raise LaunchError(f"{status.state}: {status.details or 'no details'} (log: {log_file})")
