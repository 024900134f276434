"""What must hold for every text: a verdict or an InputError, order kept, no score moved by its neighbours."""

from __future__ import annotations

import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crest import Guard
from crest.bundle import TOKENIZER
from crest.encode import Tokenizer, WindowSize, encode_pairs, encode_texts, normalise

SIZE = WindowSize(max_tokens=16, overlap_tokens=4)
QUICK = settings(max_examples=100, deadline=None)

# Any str at all, lone surrogates included, and strings made of what is likely to break an encoder.
AWKWARD = [
    *"ab e中é\n\t\x00\x1f\x85\u200b\u200c\u200d\u202e\u2066\ufeff\ufe0f\u0301\u0316\u1100\u1161\u11a8کم",
    "bomb ",
]
AWKWARD += [*"\ud800\udfff\u0344\u0f77\u3164\uffa0\U000e0041ﷺﬁＡ", "\U0001f469\u200d\U0001f4bb", "bomb ", "cake "]
ANY = st.text(st.characters(codec=None, categories=None))
TEXTS = st.one_of(ANY, st.lists(st.sampled_from(AWKWARD), max_size=80).map("".join))


@pytest.fixture(scope="session")
def tokenizer(tiny_bundle: Path) -> Tokenizer:
    return Tokenizer(tiny_bundle / TOKENIZER)


@QUICK
@given(texts=st.lists(TEXTS, max_size=8))
def test_every_str_gets_a_verdict_with_a_score_between_0_and_1(texts: list[str], guard: Guard) -> None:
    verdicts = guard.check(texts)
    assert len(verdicts) == len(texts)
    for text, verdict in zip(texts, verdicts, strict=True):
        assert 0 <= verdict.score <= 1
        assert 0 <= verdict.coverage <= 1
        assert verdict.flagged == (verdict.score >= verdict.threshold)
        assert bool(verdict.spans) == verdict.flagged
        assert all(0 <= span.begin < span.end <= len(text) for span in verdict.spans)


@QUICK
@given(texts=st.lists(TEXTS, min_size=1, max_size=8), data=st.data())
def test_neither_order_nor_neighbours_move_a_score(texts: list[str], data: st.DataObject, guard: Guard) -> None:
    alone = [guard.check([text])[0] for text in texts]
    order = data.draw(st.permutations(range(len(texts))))
    for place, verdict in zip(order, guard.check([texts[place] for place in order]), strict=True):
        assert verdict.score == pytest.approx(alone[place].score, abs=1e-3)
        assert verdict.category_scores == pytest.approx(alone[place].category_scores, abs=1e-3)
        assert verdict.language_score == pytest.approx(alone[place].language_score, abs=1e-3)


@QUICK
@given(prompt=TEXTS, response=TEXTS)
def test_every_pair_gets_a_verdict(prompt: str, response: str, guard: Guard) -> None:
    (verdict,) = guard.check_pairs([(prompt, response)])
    assert all(0 <= span.begin < span.end <= len(response) for span in verdict.spans)


@QUICK
@given(text=TEXTS)
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once.text).text == once.text
    assert unicodedata.is_normalized("NFKC", once.text)
    once.text.encode()


@QUICK
@given(text=TEXTS)
def test_offsets_rise_from_the_beginning_to_the_end(text: str) -> None:
    normal = normalise(text)
    starts = [int(start) for start in normal.starts]
    assert len(starts) == len(normal.text) + 1
    assert starts == sorted(starts)
    assert starts[-1] == len(text)
    assert normal.original(0, len(normal.text))[1] == len(text)


@QUICK
@given(prompt=TEXTS, text=TEXTS)
def test_windows_fit_and_cover_every_character(prompt: str, text: str, tokenizer: Tokenizer) -> None:
    (plain,) = encode_texts([text], tokenizer=tokenizer, size=SIZE)
    (paired,) = encode_pairs([(prompt, text)], tokenizer=tokenizer, size=SIZE)
    assert bool(plain.windows) == bool(paired.windows)
    for windows in (plain.windows, paired.windows):
        assert all(len(window.ids) <= SIZE.max_tokens for window in windows)
        assert all(after.begin <= before.end for before, after in pairwise(windows))
        assert not windows or (windows[0].begin, windows[-1].end) == (0, len(text))
