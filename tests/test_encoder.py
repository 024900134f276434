"""The encoder: the same numbers as transformers, and heads that leave each other alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from crest.errors import RecipeError
from crest.pipeline.encoder import Encoder, Heads, Layer, load_encoder
from lab import HEADS, SHAPE, encoder, ids

SIZE: dict[str, Any] = {
    "vocab_size": 90,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 24,
    "initializer_range": 0.3,
}
OPEN_HEADS = Heads(categories=32, languages=32, language_layer=2)
ALL = np.arange(90)


def write_xlmr(folder: Path) -> Any:
    from transformers import XLMRobertaConfig, XLMRobertaModel

    model = XLMRobertaModel(XLMRobertaConfig(**SIZE, pad_token_id=1, type_vocab_size=1))
    model.save_pretrained(folder)
    return model


def write_xlmr_with_a_head(folder: Path) -> Any:
    """Names of weights then begin with "roberta."."""
    from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM

    model = XLMRobertaForMaskedLM(XLMRobertaConfig(**SIZE, pad_token_id=1, type_vocab_size=1))
    model.save_pretrained(folder)
    return model.roberta


def write_bert(folder: Path) -> Any:
    from transformers import BertConfig, BertModel

    model = BertModel(BertConfig(**SIZE, pad_token_id=0))
    model.save_pretrained(folder)
    return model


def opened(folder: Path, *, layer: int = 2) -> Encoder:
    """The encoder with heads that pass on what they read."""
    model = load_encoder(folder, dataclasses.replace(OPEN_HEADS, language_layer=layer), pieces=ALL).eval()
    with torch.no_grad():
        for head in (model.category, model.language):
            head.weight.copy_(torch.eye(32))
            head.bias.zero_()
    return model


@pytest.mark.parametrize("write", [write_xlmr, write_xlmr_with_a_head, write_bert])
@pytest.mark.parametrize("shape", [(1, 2), (3, 7), (2, 22)])
def test_pooled_vectors_are_those_of_transformers(
    write: Callable[[Path], Any], shape: tuple[int, int], tmp_path: Path
) -> None:
    reference = write(tmp_path).eval()
    tokens = ids(*shape).clamp(max=89)
    with torch.no_grad():
        expected = reference(input_ids=tokens, attention_mask=torch.ones_like(tokens))
        found = opened(tmp_path)(tokens)
    assert float(expected.last_hidden_state.mean(1).abs().max()) > 0.1
    assert torch.allclose(found.category, expected.last_hidden_state.mean(1), atol=1e-5)


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_the_language_head_reads_the_mean_of_its_layer(layer: int, tmp_path: Path) -> None:
    reference, tokens = write_xlmr(tmp_path).eval(), ids(3, 7).clamp(max=89)
    with torch.no_grad():
        expected = reference(input_ids=tokens, output_hidden_states=True).hidden_states[layer].mean(1)
        model = opened(tmp_path, layer=layer)
        assert torch.allclose(model.read_language(tokens), expected, atol=1e-5)
        assert torch.allclose(model(tokens).language, expected, atol=1e-5)


def test_kept_pieces_are_read_under_their_new_ids(tmp_path: Path) -> None:
    write_xlmr(tmp_path)
    keep = np.array([0, 1, 2, 3, 10, 20, 30])
    trimmed = load_encoder(tmp_path, OPEN_HEADS, pieces=keep)
    trimmed.load_state_dict(opened(tmp_path).state_dict())
    tokens = torch.tensor([[0, 4, 6, 5, 2]])
    with torch.no_grad():
        assert torch.equal(trimmed.eval()(tokens).category, opened(tmp_path)(torch.from_numpy(keep)[tokens]).category)


def test_the_vocabulary_is_not_trained(tmp_path: Path) -> None:
    write_xlmr(tmp_path)
    assert "vocabulary" not in dict(opened(tmp_path).named_parameters())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_type": "gpt2"}, "holds a gpt2 model; an encoder must be bert or xlm-roberta"),
        ({"model_type": "roberta"}, "holds a roberta model; an encoder must be bert or xlm-roberta"),
        ({"hidden_act": "relu"}, "an encoder must be bert or xlm-roberta"),
    ],
)
def test_another_kind_of_model_is_refused(change: dict[str, str], told: str, tmp_path: Path) -> None:
    write_xlmr(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}), encoding="utf-8")
    with pytest.raises(RecipeError, match=told):
        load_encoder(tmp_path, HEADS, pieces=ALL)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("content", [None, b"no such format"])
def test_a_folder_without_a_readable_model_is_named(name: str, content: bytes | None, tmp_path: Path) -> None:
    write_xlmr(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RecipeError, match=f"cannot read the encoder in {tmp_path}: "):
        load_encoder(tmp_path, HEADS, pieces=ALL)


@pytest.mark.parametrize("layer", [-1, 3])
def test_the_language_head_reads_a_layer_that_there_is(layer: int) -> None:
    with pytest.raises(RecipeError, match=f"language_layer must be 0 to 2, not {layer}"):
        Encoder(SHAPE, Heads(14, 9, layer), vocabulary=torch.zeros(9, 64))


def touched(model: Encoder, loss: Tensor) -> set[str]:
    """Names of the parameters that a loss reaches."""
    model.zero_grad()
    torch.autograd.backward(loss)
    return {name for name, value in model.named_parameters() if value.grad is not None and value.grad.any()}


def test_the_language_loss_reaches_the_language_head_alone() -> None:
    model = encoder()
    assert touched(model, model(ids(2, 6)).language.square().sum()) == {"language.weight", "language.bias"}
    assert not model.read_language(ids(2, 6)).requires_grad


def test_the_other_losses_reach_everything_but_the_language_head() -> None:
    model = encoder()
    output = model(ids(2, 6))
    rest = {name for name, _ in model.named_parameters() if not name.startswith("language.")}
    assert touched(model, output.unsafe.square().sum() + output.category.square().sum()) == rest


def test_texts_do_not_see_each_other() -> None:
    model, tokens = encoder(), ids(4, 9)
    with torch.no_grad():
        together, alone = model(tokens).unsafe, torch.cat([model(row[None]).unsafe for row in tokens])
    assert torch.allclose(together, alone, atol=1e-6)


def test_every_layer_shows_its_four_inputs() -> None:
    model = encoder()
    seen: list[tuple[str, tuple[int, ...]]] = []

    def at(site: str, x: Tensor) -> Tensor:
        seen.append((site, tuple(x.shape)))
        return x

    layers = model.stack()
    assert all(isinstance(layer, Layer) for layer in layers)
    for layer in layers:
        layer.at = at
    model(ids(2, 6))
    assert seen == [("qkv", (12, 64)), ("out", (12, 64)), ("inner", (12, 64)), ("outer", (12, 128))] * 2


def test_fresh_heads_begin_with_rare_categories() -> None:
    model = Encoder(SHAPE, HEADS, vocabulary=torch.randn(9, 64))
    assert torch.sigmoid(model.category.bias).max() < 0.05
