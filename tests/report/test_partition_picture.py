"""The heat map of a partition: as tall as a screen however many clients there are, and none of them left out."""

import struct

import numpy as np
import pytest

from fedhpro_flwr.report.partition_picture import partition_picture
from fedhpro_flwr.report.runs import Division


def drawn(counts):
    clients, classes = counts.shape
    return partition_picture(Division(counts, [str(c) for c in range(classes)], [""] * clients), "p", "all").png


@pytest.mark.parametrize(("clients", "height"), [(21, 750), (100, 1095), (1000, 1095)])
def test_height_in_pixels(clients, height):
    assert struct.unpack(">I", drawn(np.ones((clients, 3), np.int64))[20:24]) == (height,)


def test_none_of_more_clients_than_pixels_is_left_out():
    nobody = np.zeros((2000, 2), np.int64)
    nobody[-1] = 9  # the largest count, which the colours go by
    empty = drawn(nobody)
    for client in range(1000, 1004):
        counts = nobody.copy()
        counts[client] = 9
        assert drawn(counts) != empty
