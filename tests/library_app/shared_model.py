"""A user's own model: anything with an encoder to [B, D] and a linear head."""

from torch import nn

from fedhpro_flwr import Model

CLASSES, FEATURES, WIDTH = 3, 6, 8


def my_model() -> Model:
    return Model(nn.Sequential(nn.Linear(FEATURES, 16), nn.Tanh(), nn.Linear(16, WIDTH)), nn.Linear(WIDTH, CLASSES))
