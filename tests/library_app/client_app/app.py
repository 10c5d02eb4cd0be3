"""A user's own ClientApp: their model, their data, this project's visit."""

import torch
from shared_model import CLASSES, FEATURES, my_model

from fedhpro_flwr import ClientData, Split, make_client_app


def client_side(config, task, context):
    generator = torch.Generator().manual_seed(task.partition_id)
    labels = torch.randint(CLASSES, (40,), generator=generator)
    inputs = torch.randn(40, FEATURES, generator=generator) + labels[:, None]
    half = Split(inputs[:30], labels[:30]), Split(inputs[30:], labels[30:])
    return my_model(), ClientData(*half, mean=(0.0,), std=(1.0,))


app = make_client_app(client_side)
