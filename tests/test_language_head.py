"""The language head: fitted to a finished encoder, without touching it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from crest.errors import RecipeError
from crest.pipeline.encoder import Encoder
from crest.pipeline.examples import LANGUAGES, UNKNOWN, Examples, stack_ids
from crest.pipeline.language_head import fit_language_head
from lab import encoder, examples

SPOKEN = (3, 40, 90)  # places of languages; each writes with tokens of its own


def spoken(*, seed: int = 0) -> Examples:
    """300 texts of 8 tokens, 100 of each language."""
    rng = np.random.default_rng(seed)
    texts = [[0, *(4 + 30 * place + rng.integers(0, 30, 6)), 2] for place in range(len(SPOKEN)) for _ in range(100)]
    known = np.repeat(SPOKEN, 100)
    return Examples([np.array(text, dtype=np.int32) for text in texts], known * 0, known * 0, known)


def fitted(model: Encoder, made: Examples) -> tuple[Tensor, Tensor]:
    return fit_language_head(model, made, epochs=8, rng=np.random.default_rng(1))


def test_the_head_tells_new_texts_of_its_languages_apart() -> None:
    model, new = encoder(), spoken(seed=9)
    weight, bias = fitted(model, spoken())
    with torch.no_grad():
        read = model.read_language(torch.from_numpy(stack_ids(new, np.arange(300))))
    found = (read @ weight.T + bias).argmax(1).numpy()
    assert weight.shape == (len(LANGUAGES), 64)
    assert float(np.mean(found == new.language)) > 0.95


def test_fitting_leaves_the_encoder_as_it_was() -> None:
    model = encoder()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fitted(model, spoken())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_same_generator_fits_the_same_head() -> None:
    first, second = (fitted(encoder(), spoken()) for _ in range(2))
    assert all(map(torch.equal, first, second))


def test_texts_of_unknown_language_have_no_influence() -> None:
    made, other = spoken(), spoken()
    for each in (made, other):
        each.language[200:] = UNKNOWN
    other.ids[200:] = other.ids[:100]
    for first, second in zip(fitted(encoder(), made), fitted(encoder(), other), strict=True):
        assert torch.allclose(first, second)


def test_without_any_known_language_there_is_no_head_to_fit() -> None:
    made = examples(20)
    made.language[:] = UNKNOWN
    with pytest.raises(RecipeError, match="no text whose language is known"):
        fitted(encoder(), made)
