"""A run on a SuperLink that serves real nodes, submitted again if it was lost with its server.

A SuperLink that was killed and started again on its database ends the runs it had, as it has lost their ServerApps.
The checkpoints are in the run's folder on the SuperLink's machine, so a new run with `resume` goes on there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from fedhpro_flwr.config import RunConfig, Scalar
from fedhpro_flwr.launch.flower import Flower, LaunchError, UnreachableError
from fedhpro_flwr.launch.following import follow
from fedhpro_flwr.launch.submitted_run import Status, SubmittedRun, submit
from fedhpro_flwr.runs.progress import HEADING
from fedhpro_flwr.runs.resume import ALREADY_FINISHED, NOT_BEGUN
from fedhpro_flwr.server.answers import NODES_NEEDED

PATIENCE = 600.0  # seconds that a SuperLink may be out of reach
RETRY_SECONDS = 5.0  # between two attempts to submit


@dataclass(frozen=True)
class Deployment:
    """How a run is looked after.

    Args:
        flower: speaks with the SuperLink.
        say: gets each line of the run's log.
        told: gets a sentence of what else happens.
        restarts: how often a lost run is submitted again.
    """

    flower: Flower
    say: Callable[[str], None]
    told: Callable[[str], None]
    restarts: int

    def submit(self, settings: dict[str, Scalar]) -> SubmittedRun:
        """Hand the run over. Ctrl-C meanwhile stops the run, as the SuperLink may have taken it already.

        Raises:
            LaunchError: it was not taken, or no SuperLink answers.
        """
        with ThreadPoolExecutor(1) as pool:  # an interrupt reaches the main thread alone
            handed_over = pool.submit(submit, self.flower, settings)
            try:
                return handed_over.result()
            except KeyboardInterrupt:
                with suppress(LaunchError):  # it was not taken: nothing to stop
                    self._stopped(handed_over.result())
                raise

    def play(self, run: SubmittedRun, config: RunConfig) -> None:
        """Look after a run until its end.

        Args:
            run: as it was submitted.
            config: its settings, with `run-folder`.

        Raises:
            LaunchError: it failed, was stopped by somebody, or was lost too often; the message is the reason.
            KeyboardInterrupt: Ctrl-C, after the run was stopped.
        """
        settings, lost, played = config.flat(), 0, False

        def say(line: str) -> None:
            nonlocal played
            played = played or HEADING in line  # which is logged before the first round's line
            self.say(line)

        while True:
            try:
                status = follow(run, say, told=self.told, patience=PATIENCE)
            except KeyboardInterrupt:
                self._stopped(run)
                raise
            except UnreachableError as error:
                raise LaunchError(f"{error}; run {run.run_id} may go on there, or has to be resumed") from None
            except LaunchError:
                self._stopped(run)
                raise
            if status.completed:
                return
            if ALREADY_FINISHED in status.sentence and lost:
                return  # it was lost after it had written its summary, but before Flower knew that it had ended
            if NOT_BEGUN in status.sentence and lost and not played:
                self.told("nothing was written yet when the run was lost: it begins anew")
                settings = settings | {"resume": ""}
            elif not status.lost and not (lost and NODES_NEEDED in status.sentence):
                raise LaunchError(status.sentence)
            elif lost == self.restarts:
                raise LaunchError(_went_away(status, lost + 1))
            else:
                lost += 1
                settings = settings | {"resume": config.run_folder if config.checkpoint.every else ""}
                how = "goes on from its last checkpoint" if settings["resume"] else "begins anew (checkpoint.every = 0)"
                self.told(f"{_went_away(status)}; it {how}: {lost} of {self.restarts}")
            run = self._submit_again(settings)

    def _submit_again(self, settings: dict[str, Scalar]) -> SubmittedRun:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self.submit(settings)
            except UnreachableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_SECONDS)

    def _stopped(self, run: SubmittedRun) -> None:
        self.told(f"stopping run {run.run_id}")
        try:
            run.stop()
        except LaunchError as error:
            self.told(f"it could not be stopped: {error}")


def _went_away(status: Status, times: int = 1) -> str:
    """Why a run did not end, though it could: its server went away, or its nodes are not back yet."""
    if not status.lost:
        return f"the run's nodes are not back yet ({status.sentence})"
    return f"the run was lost with its server{f', {times} times' if times > 1 else ''} ({status.details})"
