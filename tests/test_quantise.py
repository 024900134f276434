"""Rounding to 8 bits: which ranges are chosen, and that training goes on through it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from crest.pipeline.encoder import Encoder, pass_on
from crest.pipeline.graph import SITES, Range
from crest.pipeline.quantise import choose_ranges, release, round_inputs
from lab import PIECES, SHAPE, encoder, ids

GELU_MINIMUM = -0.16997
RARE = 7  # the id of the outlier


def batches(count: int = 4) -> list[Tensor]:
    return [ids(64, 16, seed=seed) for seed in range(count)]


def ranges_of(model: Encoder, tokens: list[Tensor]) -> list[dict[str, Range]]:
    return choose_ranges(model, tokens, rng=np.random.default_rng(0))


def with_outlier() -> Encoder:
    """An encoder with one token whose normalised vector is zero but for one number, near 8."""
    vocabulary = torch.randn(PIECES, SHAPE.hidden, generator=torch.Generator().manual_seed(1))
    vocabulary[RARE] = 0
    vocabulary[RARE, 5] = 1000
    model = encoder(vocabulary=vocabulary)
    torch.nn.init.ones_(model.norm.weight)
    torch.nn.init.zeros_(model.norm.bias)
    return model


def without_rare(tokens: list[Tensor]) -> list[Tensor]:
    return [each.masked_fill(each == RARE, RARE + 1) for each in tokens]


def test_every_input_of_every_layer_gets_a_range_that_holds_zero() -> None:
    ranges = ranges_of(encoder(), batches(1))
    assert [tuple(sites) for sites in ranges] == [SITES] * SHAPE.layers
    assert all(low <= 0 < high for sites in ranges for low, high in sites.values())


def test_a_rare_outlier_is_clipped() -> None:
    tokens = without_rare(batches())
    tokens[0][0, 3] = RARE
    low, high = ranges_of(with_outlier(), tokens)[0]["qkv"]
    assert 2.5 < high < 6 and -6 < low < -2.5


def test_an_outlier_that_is_frequent_is_kept() -> None:
    tokens = without_rare(batches())
    for each in tokens:
        each[:, 3:12] = RARE
    assert ranges_of(with_outlier(), tokens)[0]["qkv"][1] > 7.5


def test_the_lower_end_of_gelu_is_kept() -> None:
    model = encoder()
    for sites in ranges_of(model, batches()):
        low, high = sites["outer"]
        assert low == pytest.approx(GELU_MINIMUM, abs=1e-3)
        assert high > 0.5


def test_a_range_is_chosen_on_the_last_batch_as_well_as_on_the_first() -> None:
    tokens = without_rare(batches(20))
    for each in tokens[10:]:
        each[:, 1:-1] = RARE
    assert ranges_of(with_outlier(), tokens)[0]["qkv"][1] > 7.5


def test_choosing_ranges_leaves_the_model_as_it_was() -> None:
    model = encoder().train()
    ranges_of(model, batches(1))
    assert model.training
    assert all(layer.at is pass_on for layer in model.stack())


def test_the_same_texts_give_the_same_ranges() -> None:
    assert ranges_of(encoder(), batches(1)) == ranges_of(encoder(), batches(1))


def test_rounding_changes_the_scores_a_little_and_release_gives_them_back() -> None:
    model, tokens = encoder(), ids(8, 16)
    ranges = ranges_of(model, batches())
    with torch.no_grad():
        before = model(tokens).unsafe
        round_inputs(model, ranges)
        rounded = model(tokens).unsafe
        release(model)
        after = model(tokens).unsafe
    assert 0 < float((rounded - before).abs().max()) < 0.1
    assert torch.equal(before, after)


def test_wider_ranges_round_more_coarsely() -> None:
    model, tokens = encoder(), ids(8, 16)
    errors = []
    with torch.no_grad():
        before = model(tokens).unsafe
        for reach in (8.0, 80.0, 800.0):
            round_inputs(model, [dict.fromkeys(SITES, (-reach, reach))] * SHAPE.layers)
            errors.append(float((model(tokens).unsafe - before).abs().mean()))
    assert errors == sorted(errors) and errors[0] < errors[2] / 10


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_gradients_pass_through_the_rounding(kind: torch.dtype) -> None:
    model, tokens = encoder().to(kind), ids(8, 16)
    ranges = ranges_of(model, batches(1))
    gradients = []
    for rounded in (False, True):
        if rounded:
            round_inputs(model, ranges)
        model.zero_grad()
        torch.autograd.backward(model(tokens).unsafe.float().square().sum())
        gradients.append(
            {name: value.grad.float() for name, value in model.named_parameters() if value.grad is not None}
        )
    plain, through = gradients
    assert plain.keys() == through.keys() and len(plain) > 20
    for name, gradient in plain.items():
        assert torch.cosine_similarity(gradient.flatten(), through[name].flatten(), dim=0) > 0.9, name


def test_no_gradient_passes_where_a_value_is_clipped() -> None:
    model = encoder()
    round_inputs(model, [dict.fromkeys(SITES, (-1e-6, 1e-6))] * SHAPE.layers)
    torch.autograd.backward(model(ids(8, 16)).unsafe.sum())
    weight = model.stack()[0].inner.weight
    assert weight.grad is not None and not weight.grad.any()
