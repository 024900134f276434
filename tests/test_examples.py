"""Examples: rows as the model reads them, and how their labels are numbered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tiny
from crest.encode import BOS_ID, EOS_ID, Tokenizer
from crest.pipeline.examples import LANGUAGES, UNKNOWN, Examples, join, stack_ids, tokenise
from crest.pipeline.sources import Row
from crest.taxonomy import CATEGORIES


@pytest.fixture
def tokenizer(tiny_bundle: Path) -> Tokenizer:
    return Tokenizer(tiny_bundle / "tokenizer.model")


def row(text: str, label: str = "safe", *, category: str = "", source: str = "seeds", context: str = "") -> Row:
    return Row(f"k/{text}", text, label, category, "sw", source, context)


def read(tokenizer: Tokenizer, *rows: Row, max_tokens: int = 16) -> Examples:
    return tokenise(rows, tokenizer, max_tokens=max_tokens)


def test_a_text_is_read_as_the_product_reads_it(tokenizer: Tokenizer) -> None:
    (found,) = read(tokenizer, row("bomb cake")).ids
    assert found.tolist() == [BOS_ID, tiny.BOMB, tiny.CAKE, EOS_ID]


def test_a_reply_follows_its_prompt_and_rows_keep_their_order(tokenizer: Tokenizer) -> None:
    rows = [row("cake"), row("bomb", context="cake"), row("bomb")]
    assert [each.tolist() for each in read(tokenizer, *rows).ids] == [
        [BOS_ID, tiny.CAKE, EOS_ID],
        [BOS_ID, tiny.CAKE, EOS_ID, EOS_ID, tiny.BOMB, EOS_ID],
        [BOS_ID, tiny.BOMB, EOS_ID],
    ]


def test_a_long_text_keeps_its_first_window(tokenizer: Tokenizer) -> None:
    (found,) = read(tokenizer, row("bomb " + "cake " * 30)).ids
    assert found.tolist() == [BOS_ID, tiny.BOMB, *[tiny.CAKE] * 13, EOS_ID]


def test_a_text_with_nothing_to_read_has_the_special_tokens_alone(tokenizer: Tokenizer) -> None:
    assert read(tokenizer, row("")).ids[0].tolist() == [BOS_ID, EOS_ID]


def test_labels_are_numbered_and_what_is_unknown_is_marked(tokenizer: Tokenizer) -> None:
    rows = [
        row("a", "safe", category="weapons"),
        row("b", "unsafe", category="weapons"),
        row("c", "unsafe"),
        row("d", "", source="monolingual"),
        row("e", "safe", source="corpus"),
    ]
    found = read(tokenizer, *rows)
    swahili, none = LANGUAGES.index("sw"), len(CATEGORIES)
    assert found.unsafe.tolist() == [0, 1, 1, UNKNOWN, 0]
    assert found.category.tolist() == [none, CATEGORIES.index("weapons"), UNKNOWN, UNKNOWN, none]
    assert found.language.tolist() == [swahili, swahili, swahili, swahili, UNKNOWN]


def test_no_rows_join_others_without_changing_their_labels(tokenizer: Tokenizer) -> None:
    some = read(tokenizer, row("bomb", "unsafe"), row("cake"))
    joined = join(read(tokenizer), some)
    assert joined.unsafe.dtype == np.int64 and joined.language.dtype == np.int64
    assert joined.unsafe.tolist() == some.unsafe.tolist()
    assert len(joined.ids) == 2


def test_joined_examples_stand_in_order(tokenizer: Tokenizer) -> None:
    first, second = read(tokenizer, row("bomb", "unsafe")), read(tokenizer, row("cake"))
    joined = join(first, second)
    assert stack_ids(joined, np.array([0, 1])).tolist() == [[0, tiny.BOMB, 2], [0, tiny.CAKE, 2]]
    assert joined.unsafe.tolist() == [1, 0]
