"""`fedhpro predict` as a call."""

import csv

from fedhpro_flwr.cli import main


def predict(capfd, *words):
    """Exit status, the lines of stdout as rows, and stderr."""
    status = main(["predict", *map(str, words)])
    told = capfd.readouterr()
    return status, list(csv.reader(told.out.splitlines())), told.err
