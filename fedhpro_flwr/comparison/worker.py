"""A process that runs one cell after another: the imports take longer than a small run, and are paid once.

It is a child of the grid (workers.py). Each line on its standard input is the folder of a cell, whose config.toml says
what to run. It answers each with two numbers: the run's exit status, and the round after which the run went on from its
checkpoint, 0 if it began anew. What the run prints, and what the interpreter prints if it crashes, goes to run.log in
the folder.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from fedhpro_flwr.cli import main as fedhpro
from fedhpro_flwr.commands import STOPPED
from fedhpro_flwr.comparison.child_process import LOG_FILE
from fedhpro_flwr.comparison.stopped_run import goes_on_after, is_written
from fedhpro_flwr.runs.run_folder import CHECKPOINT_FOLDER, CONFIG_FILE


def main() -> None:
    """Serve until standard input ends or somebody interrupts.

    Arguments of the process: its parent's id, then what follows `fedhpro run CONF` in the command of every cell.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    parent, *arguments = sys.argv[1:]
    for line in sys.stdin:
        if os.getppid() != int(parent):
            break  # the parent died, and some import has swallowed the interrupt
        folder = Path(line.removesuffix("\n"))
        with (folder / LOG_FILE).open("wb") as log:
            os.dup2(log.fileno(), 1)  # the descriptors, not sys.stdout: native code writes there as well
            os.dup2(log.fileno(), 2)
        words, after = run_in(folder)
        status = fedhpro(["run", *words, *arguments])
        sys.stdout.flush()
        sys.stderr.flush()
        answers.write(f"{status} {after}\n")
        answers.flush()
        if status == STOPPED:
            break


def run_in(folder: Path) -> tuple[list[str], int]:
    """What `fedhpro run` is told, to go on with the run in a folder or to begin it; after which round it goes on."""
    begin, resume = [str(folder / CONFIG_FILE)], ["--resume", str(folder)]
    if not (folder / CHECKPOINT_FOLDER).exists():
        return begin, 0
    if is_written(folder):
        return resume, 0
    if after := goes_on_after(folder):
        return resume, after
    shutil.rmtree(folder / CHECKPOINT_FOLDER, ignore_errors=True)
    return begin, 0


if __name__ == "__main__":
    main()
