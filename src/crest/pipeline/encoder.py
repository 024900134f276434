"""The encoder that is trained: a post-norm transformer of the BERT and XLM-R family, with the heads of a guard.

It reads and writes Hugging Face weights. Batches hold texts of one length, so there is neither padding nor a mask, and
the vocabulary stays frozen: together twice the speed of the general implementation on a CPU (docs/decisions).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from crest.errors import RecipeError

RARE = -3.5  # logit that a category starts from: about its share among texts
LAYER_NAMES = {
    "out": "attention.output.dense",
    "inner": "intermediate.dense",
    "outer": "output.dense",
    "norm_attention": "attention.output.LayerNorm",
    "norm": "output.LayerNorm",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of an encoder, from its `config.json`.

    Attributes:
        hidden: Width.
        layers: Depth.
        heads: Attention heads.
        inner: Width of the feed-forward part.
        positions: Rows of the position table.
        first_position: The row of the first token; 2 in XLM-R, 0 in BERT.
        epsilon: Of the layer norms.
    """

    hidden: int
    layers: int
    heads: int
    inner: int
    positions: int
    first_position: int
    epsilon: float


@dataclass(frozen=True, slots=True)
class Heads:
    """What the heads tell apart.

    Attributes:
        categories: Number of harm categories.
        languages: Number of languages.
        language_layer: The language head reads the mean of this layer's output; 0 for the embedded tokens.
    """

    categories: int
    languages: int
    language_layer: int


Watcher: TypeAlias = Callable[[str, Tensor], Tensor]


def pass_on(_site: str, x: Tensor) -> Tensor:
    """Leave the input of a product as it is."""
    return x


class Layer(nn.Module):
    """One transformer layer, (texts x tokens, hidden) to the same.

    Attributes:
        at: Sees the input of each product ("qkv", "out", "inner", "outer") and may round it (see quantise.py).
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.qkv = nn.Linear(shape.hidden, 3 * shape.hidden)
        self.out = nn.Linear(shape.hidden, shape.hidden)
        self.inner = nn.Linear(shape.hidden, shape.inner)
        self.outer = nn.Linear(shape.inner, shape.hidden)
        self.norm_attention = nn.LayerNorm(shape.hidden, eps=shape.epsilon)
        self.norm = nn.LayerNorm(shape.hidden, eps=shape.epsilon)
        self.at: Watcher = pass_on

    def forward(self, x: Tensor, texts: int, tokens: int) -> Tensor:
        """Return the layer's output."""
        width = x.shape[1] // self.heads
        qkv = self.qkv(self.at("qkv", x)).view(texts, tokens, 3, self.heads, width).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        # Plain products: on short texts they are twice as fast on a CPU as scaled_dot_product_attention.
        mixed = torch.softmax(q @ k.transpose(-1, -2) * width**-0.5, dim=-1) @ v
        mixed = mixed.transpose(1, 2).reshape(texts * tokens, -1)
        x = self.norm_attention(x + self.out(self.at("out", mixed)))
        inner = functional.gelu(self.inner(self.at("inner", x)))
        result: Tensor = self.norm(x + self.outer(self.at("outer", inner)))
        return result


@dataclass(frozen=True, slots=True)
class Output:
    """Logits of a batch.

    Attributes:
        unsafe: (texts,).
        category: (texts, categories).
        language: (texts, languages).
    """

    unsafe: Tensor
    category: Tensor
    language: Tensor


class Encoder(nn.Module):
    """Token ids of texts of one length to logits.

    Args:
        shape: Size of the encoder.
        heads: Size of the heads.
        vocabulary: The frozen token vectors, (pieces, hidden).
        dropout: On the pooled vector, while training.
    """

    def __init__(self, shape: Shape, heads: Heads, *, vocabulary: Tensor, dropout: float = 0.0) -> None:
        super().__init__()
        if not 0 <= heads.language_layer <= shape.layers:
            raise RecipeError(f"language_layer must be 0 to {shape.layers}, not {heads.language_layer}")
        self.shape, self.heads, self.dropout = shape, heads, dropout
        self.vocabulary: Tensor
        self.register_buffer("vocabulary", vocabulary, persistent=False)
        self.position = nn.Parameter(torch.zeros(shape.positions, shape.hidden))
        self.norm = nn.LayerNorm(shape.hidden, eps=shape.epsilon)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.unsafe = nn.Linear(shape.hidden, 1)
        self.category = nn.Linear(shape.hidden, heads.categories)
        self.language = nn.Linear(shape.hidden, heads.languages)
        nn.init.constant_(self.category.bias, RARE)

    def forward(self, ids: Tensor) -> Output:
        """Score texts of one length: token ids with the special tokens, (texts, tokens)."""
        x, spoken = self._read(ids, layers=self.shape.layers)
        pooled = functional.dropout(x.mean(1), self.dropout, self.training)
        return Output(self.unsafe(pooled)[:, 0], self.category(pooled), self.language(spoken))

    def read_language(self, ids: Tensor) -> Tensor:
        """Return what the language head reads, (texts, hidden)."""
        _, spoken = self._read(ids, layers=self.heads.language_layer)
        return spoken

    def stack(self) -> list[Layer]:
        """Return the layers, in order."""
        return [cast("Layer", layer) for layer in self.layers]

    def _read(self, ids: Tensor, *, layers: int) -> tuple[Tensor, Tensor]:
        """Return the output of a layer, (texts, tokens, hidden), and what the language head reads, (texts, hidden).

        The second is detached: an encoder that is taught to tell languages apart forgets what they have in common.
        """
        texts, tokens = ids.shape
        first = self.shape.first_position
        x = functional.embedding(ids, self.vocabulary) + self.position[first : first + tokens]
        x = self.norm(x).view(texts * tokens, -1)
        outputs = [x]
        for layer in self.stack()[:layers]:
            outputs.append(layer(outputs[-1], texts, tokens))
        spoken = outputs[self.heads.language_layer].detach().view(texts, tokens, -1).mean(1)
        x = outputs[-1]
        return x.view(texts, tokens, -1), spoken


def load_encoder(folder: Path, heads: Heads, *, pieces: NDArray[np.int64], dropout: float = 0.0) -> Encoder:
    """Load a pretrained encoder from a Hugging Face folder, with fresh heads.

    Args:
        folder: Holds `config.json` and `model.safetensors` of a BERT or XLM-R model.
        heads: Size of the heads.
        pieces: Rows of the vocabulary to keep.
        dropout: See `Encoder`.

    Raises:
        RecipeError: If the folder cannot be read or holds another kind of model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise RecipeError(f"cannot read the encoder in {folder}: {error}") from error
    if config["model_type"] not in {"bert", "xlm-roberta"} or config.get("hidden_act", "gelu") != "gelu":
        raise RecipeError(f"{folder} holds a {config['model_type']} model; an encoder must be bert or xlm-roberta")
    prefix = next((name.split("embeddings.")[0] for name in weights if "embeddings.word_embeddings" in name), "")
    weights = {name.removeprefix(prefix): value.float() for name, value in weights.items() if name.startswith(prefix)}
    shape = Shape(
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        inner=config["intermediate_size"],
        positions=config["max_position_embeddings"],
        first_position=config["pad_token_id"] + 1 if config["model_type"] == "xlm-roberta" else 0,
        epsilon=config["layer_norm_eps"],
    )
    vocabulary = weights["embeddings.word_embeddings.weight"][torch.from_numpy(pieces)]
    encoder = Encoder(shape, heads, vocabulary=vocabulary, dropout=dropout)
    state = encoder.state_dict()
    state["position"] = (
        weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    )
    for part in ("weight", "bias"):
        state[f"norm.{part}"] = weights[f"embeddings.LayerNorm.{part}"]
        for layer in range(shape.layers):
            old, new = f"encoder.layer.{layer}.", f"layers.{layer}."
            state[f"{new}qkv.{part}"] = torch.cat(
                [weights[f"{old}attention.self.{each}.{part}"] for each in ("query", "key", "value")]
            )
            for ours, theirs in LAYER_NAMES.items():
                state[f"{new}{ours}.{part}"] = weights[f"{old}{theirs}.{part}"]
    encoder.load_state_dict(state)
    return encoder
