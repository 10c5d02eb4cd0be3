"""`fedhpro predict`: the classes of pictures, vectors or texts, predicted by a run's model."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console

from fedhpro_flwr.commands import FAILED, OK, UNREAD, Subparsers
from fedhpro_flwr.commands.complaint import complain
from fedhpro_flwr.printable import printable
from fedhpro_flwr.settings.flat_keys import ConfigError

MOST = 2**31 - 1  # of anything that is counted


def add_parser(commands: Subparsers) -> None:
    """Declare `fedhpro predict`."""
    command = commands.add_parser("predict", help="predict with a trained model: pictures, folders, .npz or .csv")
    command.add_argument("model", type=Path, metavar="MODEL", help="a model.safetensors, or a finished run's folder")
    command.add_argument(
        "inputs", nargs="+", type=Path, metavar="INPUT", help="pictures, folders of pictures, .npz or .csv files"
    )
    command.add_argument("--top", type=int, default=1, metavar="K", help="so many classes of each (default: 1)")
    command.add_argument("--out", type=Path, metavar="FILE", help="a .csv or .jsonl file (default: .csv to stdout)")
    command.add_argument("--batch-size", type=int, default=0, help="(default: as the run was tested)")
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add_needed(command)
    command.set_defaults(command=predict)


def add_needed(command: argparse.ArgumentParser) -> None:
    """Declare the options for the places of what some models need beside their file."""
    command.add_argument(
        "--encoder",
        type=Path,
        metavar="PATH",
        help="of a run with data.weights, or a model built from model.path",
    )
    command.add_argument("--tokenizer", type=Path, metavar="FOLDER", help="of a run that had data.tokenizer")


def predict(options: argparse.Namespace, console: Console) -> int:
    """Write a line for each sample; stdout gets only these lines, and stderr everything else."""
    try:
        return _predict(options)
    except BrokenPipeError:
        # As in `predict ... | head`. Without this Python would write the rest to the pipe at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD


def _predict(options: argparse.Namespace) -> int:
    # imported here: torch takes seconds, and a mistyped command does not need it
    import torch

    from fedhpro_flwr.exported.inputs import batches, refuse_missing
    from fedhpro_flwr.exported.model import load_exported
    from fedhpro_flwr.exported.output import output, refuse_output

    for name, value, least in (("--top", options.top, 1), ("--batch-size", options.batch_size, 0)):
        if not least <= value <= MOST:
            raise ConfigError(f"{name} {value}: it must be between {least} and {MOST}")
    refuse_output(options.out, options.inputs)
    refuse_missing(options.inputs)
    model = load_exported(options.model, device=options.device, encoder=options.encoder, tokenizer=options.tokenizer)
    described = model.description
    torch.set_num_threads(described.threads)  # as in the run: their number decides the order of sums of floats
    problems: list[str] = []
    labelled = right = count = 0
    with output(options.out, min(options.top, len(described.class_names))) as write:
        batch_size = options.batch_size or described.batch_size
        for batch in batches(options.inputs, model, batch_size, problems.append):
            predictions = model.of_inputs(batch.inputs, batch_size=batch_size)
            for name, top in zip(batch.names, predictions.top(options.top), strict=True):
                write(name, top)
            count += len(batch.names)
            if batch.labels is not None:
                labelled += len(batch.labels)
                right += int((predictions.labels == batch.labels).sum())
    if labelled:
        said = f"accuracy {100 * right / labelled:.2f} %: {right} of {labelled} samples with a label"
        print(said, file=sys.stderr)
    for problem in problems:
        complain(printable(problem))
    if problems:
        complain(f"{count} predicted, the above left out")
    return FAILED if problems else OK
