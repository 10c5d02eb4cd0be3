"""A client's work on ResNet-10: images per second beside a plain PyTorch loop, and what FedHPro costs over FedAvg."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from measure import MEGABYTE, Row, Seconds, best, interleaved
from torch import Tensor
from torch.nn import functional as F

from client_app.visit import train
from fedhpro_flwr.aggregation import weighted_mean
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.config import RunConfig, Scalar
from fedhpro_flwr.data import Split
from fedhpro_flwr.losses import Anchors, hpal, hpcl
from fedhpro_flwr.methods import Arrival, Batch, LocalLoss, Method, build_method
from fedhpro_flwr.models import Model, build
from fedhpro_flwr.records import (
    Broadcast,
    Task,
    Tensors,
    Update,
    array_record,
    pack_broadcast,
    pack_update,
    record_bytes,
)
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.timing import Stopwatch

TRAINING, COST = "local training", "cost over FedAvg"
CLASSES, WIDTH, MEAN = 10, 256, (0.5, 0.5, 0.5)
CLIENT_IMAGES, EPOCHS, CLIENTS = 1240, 10, 10  # of the reference's long-tailed CIFAR-10: 12,406 images, 10 clients
BATCH = 64
TIMED_IMAGES = 256  # four batches; a step costs the same whoever's images they are
METHODS: dict[str, dict[str, Scalar]] = {  # what is compared -> settings
    "FedAvg": {"method.name": "fedavg"},
    "FedHPro `paper`": {"preset": "paper"},
    "FedHPro `reference`": {"preset": "reference"},
}


def training_rows() -> Iterator[Row]:
    """Images a second of `client_app.visit.train` and of the plain loop, both with CE + HPCL + HPAL, batch 64."""
    data, extra = images(TIMED_IMAGES), losses()
    local, contiguous = settings("paper").local, new_model(torch.contiguous_format)
    channels_last = new_model(torch.channels_last)
    taken = interleaved(
        {
            "ours": lambda: train(channels_last, data, local, extra, Draws(0)),
            "plain": lambda: plain_loop(contiguous, data, local.lr, extra),
        },
        repeats=8,
    )
    speed = {name: (TIMED_IMAGES / seconds.wall, TIMED_IMAGES / seconds.cpu) for name, seconds in taken.items()}
    size, unit = "ResNet-10, 32x32, batch 64", "images/s"
    note = "channels_last, SGD in one pass, crop and flip per sample, HPCL + HPAL"
    yield Row(TRAINING, f"client_app.visit.train, {size}", speed["ours"][0], unit, speed["ours"][1], note=note)
    note = "contiguous, SGD tensor by tensor, crop and flip per batch, the same losses"
    yield Row(TRAINING, f"plain PyTorch loop, {size}", speed["plain"][0], unit, speed["plain"][1], note=note)
    ratio = [ours / plain for ours, plain in zip(speed["ours"], speed["plain"], strict=True)]
    yield Row(TRAINING, "ours / plain", ratio[0], "x", ratio[1], 1.15, more_is_better=True, note="taken in turns")


def cost_rows() -> Iterator[Row]:
    """Seconds and bytes of a visit and of the server's part of a round, for FedAvg and the two presets."""
    data, few = images(CLIENT_IMAGES), images(TIMED_IMAGES)
    runs = {name: OneRound(changes, data) for name, changes in METHODS.items()}
    fedavg = best(lambda: runs["FedAvg"].train(few), repeats=3).scaled(CLIENT_IMAGES * EPOCHS / TIMED_IMAGES)
    what = f"FedAvg: a client's {EPOCHS} epochs of {CLIENT_IMAGES} images"
    yield Row(COST, what, fedavg.wall, "s", fedavg.cpu, note=f"scaled from {TIMED_IMAGES} images")
    for name, run in runs.items():
        if name != "FedAvg":
            before = best(run.measure, repeats=2)
            yield Row(COST, f"{name}: a client's class gradients and margin", before.wall, "s", before.cpu)
            # The losses are small beside the network, so they are timed apart from it, and not as a difference.
            steps = EPOCHS * math.ceil(CLIENT_IMAGES / BATCH)
            added = best(run.losses_alone, repeats=20).scaled(steps)
            share = (before.cpu + added.cpu) / fedavg.cpu
            what = f"{name}: HPCL and HPAL, forward and backward, {steps} steps"
            yield Row(
                COST, what, added.wall, "s", added.cpu, note=f"the whole visit is FedAvg's + {share:.1%} (CPU time)"
            )
        server, phases = run.server()
        listed = ", ".join(f"{phase} {1e3 * seconds:.1f} ms" for phase, seconds in phases.items())
        what = f"{name}: server's part of a round, {CLIENTS} clients"
        yield Row(COST, what, server.wall * 1e3, "ms", server.cpu * 1e3, note=listed)
        for way, sizes in run.bytes().items():
            records = ", ".join(f"{record} {count:,} B" for record, count in sizes.items() if record != "model")
            yield Row(COST, f"{name}: sent {way}, one client", sum(sizes.values()) / MEGABYTE, "MB", note=records)


class OneRound:
    """One client and the server, with random data, the phases of a round one by one."""

    def __init__(self, changes: dict[str, Scalar], data: ClientData) -> None:
        self.config = RunConfig.parse({**LOCAL, **changes})
        self.method: Method = build_method(self.config)
        self.model, self.data = new_model(torch.channels_last), data
        self.sent: Tensors = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.state = self.method.start(self.sent)
        self.task = Task(server_round=1, partition_id=0)
        self.received = Broadcast(self.sent, self.method.broadcast(self.state), self.config, self.task)
        self.upload = self.method.upload(self.arrival())
        self.extra = self.method.local_loss(self.arrival())
        self.features = torch.randn(BATCH, WIDTH, generator=torch.Generator().manual_seed(0)).relu()
        self.labels = torch.arange(BATCH) % CLASSES
        self.update = Update(0, CLIENT_IMAGES, self.model.state_dict(), self.upload)

    def arrival(self) -> Arrival:
        """Of a client that has measured nothing yet."""
        return Arrival(self.model, self.data, self.received, Draws(0, 1, 0))

    def measure(self) -> None:
        """What a visit does before it trains: the second sharing the features of the first where both need them."""
        arrival = self.arrival()
        self.method.upload(arrival)
        self.method.local_loss(arrival)

    def losses_alone(self) -> None:
        """HPCL + HPAL of one batch and their gradient with respect to the features."""
        assert self.extra is not None
        z = self.features.clone().requires_grad_()
        self.extra(Batch(z, self.labels, z)).backward()  # type: ignore[no-untyped-call]

    def train(self, data: ClientData) -> None:
        """One epoch."""
        train(self.model, data, self.config.local, self.extra, Draws(0))

    def server(self) -> tuple[Seconds, dict[str, float]]:
        """The server's part: the mean of the models, calibration, matching. The best of three, and its phases."""
        updates = [self.update] * CLIENTS
        phases: dict[str, float] = {}

        def step() -> None:
            watch = Stopwatch()
            with watch("aggregation"):
                mean = weighted_mean([update.model for update in updates], [update.num_examples for update in updates])
            self.method.server_step(self.state, self.sent, mean, updates, Draws(0, 1), watch)
            phases.update({name: min(seconds, phases.get(name, seconds)) for name, seconds in watch.seconds.items()})

        return best(step, repeats=3), phases

    def bytes(self) -> dict[str, dict[str, int]]:
        """Of tensors, one client, both ways."""
        records = {name: array_record({name: tensor}) for name, tensor in self.method.broadcast(self.state).items()}
        down = pack_broadcast(array_record(self.sent), records, self.config.flat(), self.task)
        return {"down": record_bytes(down), "up": record_bytes(pack_update(self.update))}


LOCAL: dict[str, Scalar] = {
    "model.name": "resnet10",
    "model.width": WIDTH,
    "local.epochs": 1,
    "local.batch-size": BATCH,
    "local.lr": 0.01,
    "local.momentum": 0.0,
    "local.augment": "per-sample",
}


def settings(preset: str) -> RunConfig:
    """The local training of CIFAR-10."""
    return RunConfig.parse({**LOCAL, "preset": preset})


def images(count: int) -> ClientData:
    """Random images of CIFAR's shape, all classes."""
    generator = torch.Generator().manual_seed(count)
    inputs = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return ClientData(Split(inputs, torch.arange(count) % CLASSES), None, MEAN, MEAN)


def new_model(memory_format: torch.memory_format = torch.channels_last) -> Model:
    """ResNet-10 in a memory format."""
    model = build("resnet10", input_shape=(3, 32, 32), num_classes=CLASSES, seed=0)
    return model.to(memory_format=memory_format)


def losses(device: torch.device | str = "cpu") -> LocalLoss:
    """HPCL + HPAL against random hyper-prototypes."""
    anchors = Anchors.of(torch.randn(CLASSES, 5, WIDTH, generator=torch.Generator().manual_seed(0)).to(device))

    def loss(batch: Batch) -> Tensor:
        similar = hpcl(batch.z, batch.labels, anchors, temperature=0.05, margin=0.5)
        return similar + hpal(batch.z, batch.labels, anchors)

    return loss


def plain_loop(model: Model, data: ClientData, lr: float, extra: LocalLoss) -> None:
    """One epoch as one would write it first: contiguous images, one crop and flip a batch, un-fused SGD."""
    assert data.train is not None
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, foreach=False)
    generator = torch.Generator().manual_seed(0)
    mean, std = (torch.tensor(numbers).view(-1, 1, 1) for numbers in (data.mean, data.std))
    for chosen in torch.split(torch.randperm(len(data.train), generator=generator), BATCH):
        x, labels = (data.train.inputs[chosen].float() / 255 - mean) / std, data.train.labels[chosen]
        row, column = torch.randint(9, (2,), generator=generator).tolist()
        x = F.pad(x, (4, 4, 4, 4))[:, :, row : row + 32, column : column + 32].contiguous()
        if torch.rand((), generator=generator) < 0.5:
            x = x.flip(-1)
        z = model.encoder(x)
        loss = F.cross_entropy(model.head(z), labels) + extra(Batch(x, labels, z))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
