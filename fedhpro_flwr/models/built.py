"""What a builder promises: a `Model` with the number of classes and the width that were asked for, ready to be sent."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from fedhpro_flwr.models.model import Model, ModelShape


def refuse_unbuilt(built: object, name: str, shape: ModelShape) -> Model:
    """Check a builder's model as soon as it is made: later its mistake would look like a client's.

    Args:
        built: what the builder returned.
        name: the model's.
        shape: what the builder was asked for.

    Raises:
        ValueError: it is no `Model`, has another number of classes or of features, parameters without a shape, or
            entries in its `state_dict` that are no tensors.
    """
    if not isinstance(built, Model):
        raise ValueError(f"model {name!r}: its builder returned {type(built).__name__}, it must return a Model")
    lazy = [entry for entry, tensor in (*built.named_parameters(), *built.named_buffers()) if is_lazy(tensor)]
    if lazy:
        raise ValueError(
            f"model {name!r}: {lazy[0]} has no shape before the first batch, and models are sent before it; "
            "give the layer its number of inputs"
        )
    if others := [entry for entry, value in built.state_dict().items() if not isinstance(value, Tensor)]:
        raise ValueError(
            f"model {name!r}: {others[0]} of its state_dict is no tensor, so it cannot be sent; leave it out"
        )
    if built.num_classes != shape.num_classes:
        raise ValueError(
            f"model {name!r}: its head has {built.num_classes} classes, the data {shape.num_classes}; "
            "the builder must take shape.num_classes"
        )
    if shape.width not in (0, built.width):
        raise ValueError(
            f"model {name!r}: its head takes {built.width} features, model.width = {shape.width}; "
            "the builder must take shape.width, or refuse it"
        )
    return built


@torch.no_grad()
def refuse_other_features(model: Model, sample: Tensor) -> None:
    """Check with a sample that the encoder's features are what the head takes; the model is left as it was.

    The sample is given twice: a batch norm that keeps no running statistics takes no batch of one.

    Args:
        model: on the device of the sample.
        sample: as encoders take it, with a batch dimension of 1.

    Raises:
        ValueError: the features have another shape or type, or the encoder does not take such samples.
    """
    was_training = model.training
    model.eval()  # batch norm counts nothing, dropout draws nothing
    try:
        features = model.encoder(torch.cat([sample, sample]))
    except (RuntimeError, ValueError) as error:
        types = {tensor.dtype for tensor in model.parameters() if tensor.is_floating_point()}
        also = "; samples are float32, keep models in it" if types - {torch.float32} else ""
        raise ValueError(
            f"the model's encoder does not take samples of shape {list(sample.shape)}: {error}{also}"
        ) from error
    finally:
        model.train(was_training)
    if not isinstance(features, Tensor) or features.shape != (2, model.width):
        given = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(
            f"the model's encoder makes {given} of two samples, and its head takes {[2, model.width]}: "
            "flatten or pool in the encoder, or give the head as many inputs"
        )
    if features.dtype != model.head.weight.dtype:
        made, taken = (str(each.dtype).removeprefix("torch.") for each in (features, model.head.weight))
        raise ValueError(f"the model's encoder makes {made} features and its head takes {taken}; keep both in float32")
