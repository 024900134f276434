"""Fit the language head to a finished encoder: a linear classifier on the mean of one layer's output.

It is fitted last and apart. Taught together with the rest, it would pull the encoder towards what tells languages
apart, which is what the encoder has to ignore.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from crest.errors import RecipeError
from crest.pipeline.encoder import Encoder
from crest.pipeline.examples import LANGUAGES, UNKNOWN, Examples, batches, stack_ids

BATCH_TEXTS, BATCH_TOKENS = 256, 8192
RATE, DECAY = 5e-3, 1e-2


def fit_language_head(
    model: Encoder, examples: Examples, *, epochs: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Return the weight (languages, hidden) and bias (languages,) of the language head.

    Args:
        model: The finished encoder.
        examples: Sentences whose language is known.
        epochs: Passes over them.
        rng: For the order of the batches and the first weights.

    Raises:
        RecipeError: If the language of no example is known.
    """
    known = np.flatnonzero(examples.language != UNKNOWN)
    if not len(known):
        raise RecipeError("there is no text whose language is known; add seeds to the mix, or running text")
    inputs = _inputs(model, examples, rng)[torch.from_numpy(known)]
    target = torch.from_numpy(examples.language[known])
    mean, spread = inputs.mean(0), inputs.std(0) + 1e-6
    inputs = (inputs - mean) / spread
    weight = torch.from_numpy(
        rng.normal(0, 0.01, (len(LANGUAGES), inputs.shape[1])).astype(np.float32)
    ).requires_grad_()
    bias = torch.zeros(len(LANGUAGES), requires_grad=True)
    adam = torch.optim.AdamW([weight, bias], lr=RATE, weight_decay=DECAY)
    steps = epochs * math.ceil(len(known) / BATCH_TEXTS)
    for number in range(steps):
        for group in adam.param_groups:
            group["lr"] = RATE * (1 - number / steps)
        rows = torch.from_numpy(rng.integers(0, len(known), BATCH_TEXTS))
        loss = functional.cross_entropy(functional.linear(inputs[rows], weight, bias), target[rows])
        adam.zero_grad()
        torch.autograd.backward(loss)
        adam.step()
    weight, bias = weight.detach() / spread, bias.detach()
    return weight, bias - weight @ mean


def _inputs(model: Encoder, examples: Examples, rng: np.random.Generator) -> Tensor:
    """Return what the head reads of each example, (examples, hidden)."""
    lengths: NDArray[np.int64] = np.array([len(ids) for ids in examples.ids], dtype=np.int64)
    result = torch.zeros(len(lengths), model.shape.hidden)
    with torch.no_grad():
        for rows in batches(lengths, batch_tokens=BATCH_TOKENS, rng=rng):
            result[torch.from_numpy(rows)] = model.read_language(torch.from_numpy(stack_ids(examples, rows))).float()
    return result
