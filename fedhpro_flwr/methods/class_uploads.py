"""What a client measures of its classes before it trains."""

from __future__ import annotations

from torch import Tensor

from fedhpro_flwr.class_means import count_classes
from fedhpro_flwr.features import encode
from fedhpro_flwr.gradient_matching import ClassGradients, class_gradients
from fedhpro_flwr.head import head_of
from fedhpro_flwr.methods.arrival import Arrival
from fedhpro_flwr.methods.class_samples import draw_class_samples
from fedhpro_flwr.methods.head_calibration import received_head
from fedhpro_flwr.records import CLASS_COUNTS, CLASS_IDS
from fedhpro_flwr.settings.fedhpro_sections import ClassGradientOptions


def measured_classes(arrival: Arrival, options: ClassGradientOptions, *, head_gradients: bool) -> ClassGradients:
    """The class gradients on the samples that the options choose [P.1] [R.grads], under the head that the server sent.

    Args:
        arrival: the client with the model it received.
        options: `class-gradients.*`.
        head_gradients: whether to take those of the head's weight and bias as well.
    """
    received = arrival.received.tensors
    head = received_head(received) or head_of(arrival.received.model)
    labels = arrival.train.labels
    counts = count_classes(labels, head.num_classes)
    if options.samples_per_class == 0 and options.augment == "none":
        z, z_labels, drawn = arrival.features, labels, counts  # z: [N, D]
    else:
        chosen = draw_class_samples(arrival.data, head.num_classes, options, arrival.draws)
        z, z_labels, drawn = encode(arrival.model, chosen.inputs, lambda x: x), chosen.labels, chosen.per_repeat
    return class_gradients(
        z,
        z_labels,
        head.like(z),
        counts=counts,
        scale=options.scale,
        batch_counts=drawn,
        head_gradients=head_gradients,
    )


def counted_classes(arrival: Arrival) -> dict[str, Tensor]:
    """Which classes a client holds [P], and how many samples of each [P], by record name."""
    counts = count_classes(arrival.train.labels, arrival.model.num_classes)
    ids = counts.nonzero().squeeze(1)
    return {CLASS_IDS: ids, CLASS_COUNTS: counts[ids]}
