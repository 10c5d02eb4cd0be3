"""`fedhpro export`: a run's model as one file to give away: safetensors that say how to predict, or an ONNX graph."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from fedhpro_flwr.commands import OK, Subparsers
from fedhpro_flwr.commands.complaint import say
from fedhpro_flwr.commands.predict import add_needed
from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.printable import printable
from fedhpro_flwr.settings.flat_keys import ConfigError


def add_parser(commands: Subparsers) -> None:
    """Declare `fedhpro export`."""
    command = commands.add_parser("export", help="say what a run's model takes, copy it, or write it as an ONNX graph")
    command.add_argument("model", type=Path, metavar="MODEL", help="a model.safetensors, or a finished run's folder")
    command.add_argument("-o", "--out", type=Path, metavar="FILE", help="what to write (default of --onnx: model.onnx)")
    command.add_argument("--onnx", action="store_true", help="write an ONNX graph; needs the extra `onnx`")
    command.add_argument(
        "--state",
        type=Path,
        metavar="FILE",
        help="join a shared head to the encoder in this file of a client's state folder",
    )
    add_needed(command)
    command.set_defaults(command=export)


def export(options: argparse.Namespace, console: Console) -> int:
    """Say what a model takes and where it comes from, and write it to the files that are asked for.

    Raises:
        ConfigError: the model's file cannot be used, or what is asked for cannot be written.
        OSError: the file cannot be written.
    """
    from fedhpro_flwr.exported.description import model_bytes, model_file, read_model
    from fedhpro_flwr.runs.summary import TEST_DATA, VALIDATION_DATA
    from fedhpro_flwr.whole_file import write_whole
    from fedhpro_flwr.writable import refuse_unwritable_file

    file = model_file(expanded(options.model))
    described, tensors = read_model(file)
    if options.state:
        from fedhpro_flwr.exported.join import joined

        if described.holds == "model":
            raise ConfigError(f"--state {options.state}: {file} is a whole model; leave it out")
        if options.onnx or not options.out:
            raise ConfigError("--state joins a model; name its file by --out, and give that to --onnx")
        described, tensors = joined(file, described, tensors, options.state, options.encoder)
    out: Path | None = options.out or (file.with_suffix(".onnx") if options.onnx else None)
    if out and out.exists() and out.samefile(file):
        raise ConfigError(f"--out {out} is the model itself; name another file")
    if out:
        refuse_unwritable_file(out, f"--out {out}")
    if options.onnx and out:
        from fedhpro_flwr.exported.model import load_exported
        from fedhpro_flwr.exported.onnx_graph import write_onnx

        model = load_exported(file, encoder=options.encoder, tokenizer=options.tokenizer)
        difference = write_onnx(model, out)
        console.print(f"onnxruntime computes the same: logits differ by at most {difference:.1e}", markup=False)
    elif out:
        write_whole(out, model_bytes(tensors, described))
    part = VALIDATION_DATA if described.settings.get("data.validation-share") else TEST_DATA
    accuracy = "" if described.accuracy is None else f", {100 * described.accuracy:.2f} % of the run's {part} right"
    if described.holds == "head":
        takes = "the head alone, the encoders stay with the clients (--state joins it to one)"
    else:
        takes = f"takes {described.takes}"
    say(
        console,
        f"{out or file}: {printable(described.architecture)}, {len(described.class_names)} classes, {takes}, "
        f"{described.head} head{accuracy}",
    )
    return OK
