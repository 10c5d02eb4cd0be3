"""`hf-encoder`: a pre-trained encoder of the package transformers, read from a local folder.

Give the same folder as `data.tokenizer` and `model.path`: the ids of another tokenizer mean other words. All weights
are trained and travel in every round.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from fedhpro_flwr.data.data_set import PADDING
from fedhpro_flwr.data.hugging_face_tokenizer import swap_padding
from fedhpro_flwr.home_folder import expanded
from fedhpro_flwr.models.layers import linear_relu
from fedhpro_flwr.models.model import Model, ModelShape, model
from fedhpro_flwr.models.transformer_layer import mean_over_tokens
from fedhpro_flwr.printable import one_line

DEFAULT_WIDTH = 64
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


class PretrainedEncoder(nn.Module):
    """Tokens [B, L] to the mean over the text of the last hidden states [B, H].

    Args:
        transformer: takes input_ids and attention_mask.
        padding: the id that it pads with.
    """

    def __init__(self, transformer: nn.Module, padding: int) -> None:
        super().__init__()
        self.transformer = transformer
        self.padding = padding

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, L] -> [B, H]."""
        real = tokens != PADDING  # [B, L]
        ids = swap_padding(tokens, self.padding)
        hidden = self.transformer(input_ids=ids, attention_mask=real.long()).last_hidden_state  # [B, L, H]
        return mean_over_tokens(hidden, real)


@model("hf-encoder", reads_path=True)
def hf_encoder(shape: ModelShape) -> Model:
    """The encoder in `shape.path`, the mean over tokens, linear-ReLU of D units, the head; features are non-negative.

    Its dropout is switched off: that would draw from the process's generator, and no run could be repeated.

    Raises:
        ValueError: the inputs are no text or do not fit the encoder, transformers is missing, or the folder holds no
            encoder whose weights are complete.
    """
    length, vocabulary = shape.tokens("hf-encoder")
    if not shape.path:
        raise ValueError("model 'hf-encoder' needs model.path, the folder of the encoder")
    transformer, padding = load_encoder(expanded(shape.path))
    known = cast(nn.Embedding, transformer.get_input_embeddings()).num_embeddings
    if vocabulary > known:
        raise ValueError(
            f"model.path = {shape.path!r} knows {known} token ids but the data has {vocabulary}; "
            "set data.tokenizer to the encoder's folder"
        )
    pretrained = PretrainedEncoder(transformer, padding)
    try:
        with torch.no_grad():
            z = pretrained(torch.ones(1, length, dtype=torch.int32))  # [1, H]
    except Exception as error:  # each architecture refuses in its own way
        raise ValueError(
            f"model.path = {shape.path!r} cannot encode a text of data.text-length = {length} tokens "
            f"({one_line(error)}); shorten it, or give the folder of a text encoder"
        ) from error
    width = shape.width or DEFAULT_WIDTH
    encoder = nn.Sequential(pretrained, *linear_relu(z.shape[1], width))
    return Model(encoder, nn.Linear(width, shape.num_classes))


def load_encoder(folder: Path) -> tuple[Any, int]:
    """The float32 encoder in `folder`, without a pooler and without dropout, and the id it pads with.

    Raises:
        ValueError: transformers is missing, a file is missing or damaged, the weights are not those of the
            architecture in config.json, or config.json names no padding id.
    """
    if not (folder / "config.json").is_file() or not any((folder / name).is_file() for name in WEIGHTS):
        raise ValueError(f"model.path = {str(folder)!r} is no folder with config.json and {WEIGHTS[0]}; put them there")
    try:
        transformers: Any = import_module("transformers")
    except ImportError as error:
        raise ValueError("model 'hf-encoder' needs the package transformers: `pip install transformers`") from error
    try:
        config = transformers.AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        for key, value in config.to_dict().items():
            if "drop" in key and isinstance(value, float):  # hidden_dropout_prob, attn_pdrop, layerdrop, ...
                setattr(config, key, 0.0)
        # Safetensors only: the older format is a pickle, which runs code when it is read.
        transformer, report = transformers.AutoModel.from_pretrained(
            str(folder),
            config=config,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # many kinds, from several packages
        raise ValueError(
            f"model.path = {str(folder)!r} holds no encoder that can be read ({one_line(error)})"
        ) from error
    # transformers fills missing tensors with random numbers; only the pooler, which is not used, may be missing.
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ValueError(
            f"model.path = {str(folder)!r}: the weights are not those of config.json's {config.model_type!r}, "
            f"{len(missing)} tensors are missing ({missing[0]})"
        )
    if config.pad_token_id is None:
        raise ValueError(f"model.path = {str(folder)!r}: config.json names no pad_token_id; add the tokenizer's")
    if hasattr(transformer, "pooler"):
        transformer.pooler = None
    return transformer.float(), int(config.pad_token_id)
