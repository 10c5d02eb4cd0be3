"""From a run's submission to its end, through times in which its SuperLink does not answer."""

from __future__ import annotations

import time
from collections.abc import Callable

from fedhpro_flwr.launch.flower import LaunchError, UnreachableError
from fedhpro_flwr.launch.submitted_run import Status, SubmittedRun

POLL_SECONDS = 0.2
# `flwr ls` takes seconds of a core that the run needs, and the end of the log stream tells sooner. While the stream
# lasts, `flwr ls` is called after FIRST_SECONDS, then after twice as long each time.
FIRST_SECONDS, LONGEST_SECONDS = 15.0, 120.0
AGAIN_SECONDS = 3.0  # between two calls when the stream has ended
START_TIMEOUT = 90.0  # seconds for a submitted run to leave "pending"


def follow(
    run: SubmittedRun,
    say: Callable[[str], None],
    *,
    told: Callable[[str], None] = lambda sentence: None,
    check: Callable[[], None] = lambda: None,
    patience: float = 0.0,
) -> Status:
    """Wait for the end of a run.

    Args:
        run: the run.
        say: gets each line of its log.
        told: gets a sentence when its SuperLink does not answer, and when it does again.
        check: called again and again; raises if there is nothing to wait for any more.
        patience: seconds that the SuperLink may be out of reach.

    Raises:
        UnreachableError: the SuperLink was out of reach for longer.
        LaunchError: nobody starts the run.
    """
    began = asked = time.monotonic()
    pause = FIRST_SECONDS
    away_since: float | None = None
    with run.log(say) as stream:
        while True:
            check()
            now = time.monotonic()
            if now - asked > (AGAIN_SECONDS if stream.ended else pause):
                try:
                    status = run.status()
                    if away_since is not None:
                        told("the SuperLink answers again")
                        began = now  # nobody could start the run while the SuperLink was away
                    away_since = None
                    if status.finished:
                        stream.join(AGAIN_SECONDS)  # the last lines may still be on their way
                        return status
                    if status.state == "pending" and now - began > START_TIMEOUT:
                        raise LaunchError(
                            f"the run is still pending after {START_TIMEOUT:.0f} s: nobody starts its ServerApp; "
                            "if the SuperLink's flower-superexec is gone, restart the SuperLink"
                        )
                    if stream.ended:
                        stream.close()
                        stream.open()
                except UnreachableError as error:
                    if away_since is None:
                        away_since = now
                        told(f"{error}; waiting for it, {patience:.0f} s at most")
                    if now - away_since >= patience:
                        raise UnreachableError(f"{error}, for {now - away_since:.0f} s") from None
                asked, pause = time.monotonic(), min(2 * pause, LONGEST_SECONDS)
            time.sleep(POLL_SECONDS)
