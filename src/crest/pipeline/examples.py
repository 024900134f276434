"""Turn rows into token ids and numbered labels, in batches of one length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crest.encode import BOS_ID, EOS_ID, Encoded, Tokenizer, WindowSize, encode_pairs, encode_texts
from crest.languages import all_languages
from crest.pipeline.sources import Row
from crest.taxonomy import CATEGORIES

LANGUAGES = tuple(language.code for language in all_languages())
UNKNOWN = -1
TEXTS_AT_ONCE = 10_000
LABELS = ("unsafe", "category", "language")
# Rows of these sources teach the language head as well; the others are nearly all English.
_SPOKEN = frozenset({"seeds", "translated", "monolingual"})


@dataclass(frozen=True, slots=True)
class Examples:
    """Tokenised rows.

    Attributes:
        ids: Token ids of each, with the special tokens.
        unsafe: 1 unsafe, 0 safe, -1 unknown.
        category: Index of the category; len(CATEGORIES) for none, -1 for unknown.
        language: Index of the language, -1 for unknown or mixed.
    """

    ids: list[NDArray[np.int32]]
    unsafe: NDArray[np.int64]
    category: NDArray[np.int64]
    language: NDArray[np.int64]


def tokenise(rows: Sequence[Row], tokenizer: Tokenizer, *, max_tokens: int) -> Examples:
    """Tokenise rows as the product does, and number their labels; a long text keeps its first window."""
    size = WindowSize(max_tokens=max_tokens, overlap_tokens=0)
    encoded: list[Encoded] = []
    for begin in range(0, len(rows), TEXTS_AT_ONCE):
        part = rows[begin : begin + TEXTS_AT_ONCE]
        alone = iter(encode_texts([row.text for row in part if not row.context], tokenizer=tokenizer, size=size))
        pairs = [(row.context, row.text) for row in part if row.context]
        paired = iter(encode_pairs(pairs, tokenizer=tokenizer, size=size))
        encoded += [next(paired if row.context else alone) for row in part]
    empty = np.array([BOS_ID, EOS_ID], dtype=np.int32)
    categories = {name: place for place, name in enumerate(CATEGORIES)}
    languages = {code: place for place, code in enumerate(LANGUAGES)}
    labels = (
        [{"safe": 0, "unsafe": 1}.get(row.label, UNKNOWN) for row in rows],
        [len(CATEGORIES) if row.label == "safe" else categories.get(row.category, UNKNOWN) for row in rows],
        [languages.get(row.language, UNKNOWN) if row.source in _SPOKEN else UNKNOWN for row in rows],
    )
    return Examples(
        [each.windows[0].ids if each.windows else empty for each in encoded],
        *(np.array(each, dtype=np.int64) for each in labels),  # no rows at all would make floats
    )


def join(first: Examples, second: Examples) -> Examples:
    """Return all examples of two sets."""
    arrays = (np.concatenate([getattr(each, name) for each in (first, second)]) for name in LABELS)
    return Examples([*first.ids, *second.ids], *arrays)


def batches(lengths: NDArray[np.int64], *, batch_tokens: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Deal all rows out to batches of one length and about `batch_tokens` tokens, in random order."""
    if not len(lengths):
        return []
    order = rng.permutation(len(lengths))
    order = order[np.argsort(lengths[order], kind="stable")]
    result = []
    for group in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        count = math.ceil(len(group) / max(1, batch_tokens // max(1, int(lengths[group[0]]))))
        result += np.array_split(group, count)
    return [result[place] for place in rng.permutation(len(result))]


def stack_ids(examples: Examples, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the token ids of rows of one length, (rows, tokens)."""
    return np.stack([examples.ids[row] for row in rows]).astype(np.int64)
