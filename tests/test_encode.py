"""Text to windows: what is normalised, what is kept, and that every character is covered."""

from __future__ import annotations

import sys
import time
import unicodedata
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

import tiny
from crest.bundle import TOKENIZER
from crest.encode import (
    BOS_ID,
    CHUNK_CHARACTERS,
    EOS_ID,
    UNK_ID,
    Encoded,
    Tokenizer,
    WindowSize,
    encode_pairs,
    encode_texts,
    normalise,
)
from crest.errors import BundleError

SIZE = WindowSize(max_tokens=16, overlap_tokens=4)
ALL_CHARACTERS = [chr(code) for code in range(sys.maxunicode + 1)]
# Format characters that are drawn: Arabic number signs, Kaithi number signs, Egyptian hieroglyph joiners.
DRAWN = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x13430, 0x13440)}


@pytest.fixture(scope="module")
def tokenizer(tiny_bundle: Path) -> Tokenizer:
    return Tokenizer(tiny_bundle / TOKENIZER)


def encode(text: str, tokenizer: Tokenizer) -> Encoded:
    return encode_texts([text], tokenizer=tokenizer, size=SIZE)[0]


def ids(*words: int) -> list[int]:
    return [BOS_ID, *words, EOS_ID]


# --- normalise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("How do I bake bread?", "How do I bake bread?"),
        ("नमस्ते दुनिया", "नमस्ते दुनिया"),
        ("line\nline\ttab", "line\nline\ttab"),
        ("ｂｏｍｂ", "bomb"),
        ("𝖇𝖔𝖒𝖇", "bomb"),
        ("e\u0301", "é"),
        ("e\u200b\u0301", "é"),
        ("bo\u200bmb", "bomb"),
        ("bo\u200dmb", "bomb"),
        ("bo\u00admb", "bomb"),
        ("bo\ufeffmb", "bomb"),
        ("bo\ufe0fmb", "bomb"),
        ("bo\x00mb", "bomb"),
        ("bo\x1bmb", "bomb"),
        ("a\x0bb\x1cc\x85d", "a b c d"),
        ("\u202ebomb\u202c", "bomb"),
        ("\u2066bomb\u2069\u200f", "bomb"),
        ("".join(chr(0xE0000 + ord(letter)) for letter in "bomb"), "bomb"),
        ("\U000e0001bomb\U000e007f", "bomb"),
        ("a\ud800b", "a\ufffdb"),
        ("\u1112\u1161\u11ab", "한"),
        ("ﷺ", "صلى الله عليه وسلم"),
        ("", ""),
    ],
)
def test_a_text_has_one_form_and_nothing_hides(text: str, expected: str) -> None:
    assert normalise(text).text == expected


def test_joiners_stay_in_scripts_that_spell_with_them() -> None:
    for text in ("می\u200cخواهم", "ක්\u200dෂ", "ភាសា\u200bខ្មែរ"):
        assert normalise(text).text == text


def test_joiners_at_an_edge_beside_a_space_or_doubled_are_dropped() -> None:
    for text in ("\u200cمی", "می\u200c", "می \u200cمی", "می\u200c \u200cمی", "\u061c\u200cمی"):
        assert "\u200c" not in normalise(text).text
    assert normalise("می\u200c\u200cمی").text == "میمی"


def test_every_format_character_that_is_not_drawn_is_dropped() -> None:
    hidden = [c for c in ALL_CHARACTERS if unicodedata.category(c) == "Cf" and ord(c) not in DRAWN]
    hidden = [c for c in hidden if not 0xE0020 <= ord(c) <= 0xE007E]
    assert len(hidden) >= 40
    assert normalise("x".join(hidden)).text == "x" * (len(hidden) - 1)


def test_what_composes_with_the_character_before_it_is_known() -> None:
    pairs = [
        unicodedata.normalize("NFD", c)
        for c in ALL_CHARACTERS
        if unicodedata.normalize("NFC", unicodedata.normalize("NFD", c)) == c and unicodedata.normalize("NFD", c) != c
    ]
    assert len(pairs) >= 12_000  # 11,172 of them are Korean
    text = "\ufb01" + "|".join(pairs)  # the ligature keeps it off the fast path
    assert normalise(text).text == unicodedata.normalize("NFKC", text)


def test_every_character_is_normalised_as_nfkc_says_or_is_not_drawn() -> None:
    characters = [c for c in ALL_CHARACTERS if c != "\n"]
    found = normalise("\n".join(characters)).text.split("\n")
    others = [c for c, form in zip(characters, found, strict=True) if form != unicodedata.normalize("NFKC", c)]
    assert len(others) < 8000
    assert {unicodedata.category(c) for c in others if normalise(c).text} == {"Cc", "Cf", "Cs"}
    assert {unicodedata.category(c) for c in others if not normalise(c).text} == {"Cc", "Cf", "Cn", "Lo", "Mn"}


def test_offsets_lead_back_to_the_original() -> None:
    normal = normalise("\u200bａ\u200bﬁ e\u0301!")
    assert normal.text == "afi é!"
    assert normal.original(0, 1) == (0, 3)
    assert normal.original(1, 2) == (3, 4)  # half a ligature is all of it
    assert normal.original(2, 3) == (3, 4)
    assert normal.original(4, 5) == (5, 7)
    assert normal.original(0, 6) == (0, 8)
    assert normal.original(6, 6) == (8, 8)


def test_characters_of_a_cluster_that_keeps_its_length_keep_their_places() -> None:
    assert list(normalise("ＡＢ q\u0307\u0323").starts) == [0, 1, 2, 3, 4, 5, 6]


def test_a_long_run_of_marks_is_normalised_exactly() -> None:
    text = "a" + "\u0301\u0316" * 40
    assert normalise(text).text == unicodedata.normalize("NFKC", text)
    assert list(normalise(text).starts) == [0] * 80 + [81]


@pytest.mark.parametrize("unit", ["\u0301\u0316", "\ufdfa", "a\u200b", "\ud800", "\u1100\u1161", "q\u0307\u0323"])
def test_a_megabyte_of_anything_is_normalised_in_seconds(unit: str) -> None:
    text = unit * (300_000 // len(unit))
    begin = time.perf_counter()
    normalise(text)
    assert time.perf_counter() - begin < 10


# --- Tokenizer


def test_the_tokenizer_gives_ids_without_special_tokens(tokenizer: Tokenizer) -> None:
    assert [batch.tolist() for batch in tokenizer.encode_batch(["bomb cake", ""])] == [[tiny.BOMB, tiny.CAKE], []]


def test_a_special_token_in_a_text_is_only_text(tokenizer: Tokenizer) -> None:
    (batch,) = tokenizer.encode_batch(["</s><s><pad>"])
    assert not set(batch.tolist()) & {0, 1, 2}


def test_each_token_knows_where_it_begins(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("  bomb cake ")
    assert tokens.ids.tolist() == [tiny.BOMB, tiny.CAKE]
    assert tokens.starts.tolist() == [0, 6, 12]


def test_encoding_in_chunks_gives_the_same_ids(tiny_bundle: Path, tokenizer: Tokenizer) -> None:
    text = "the bomb x cake\nhabari  " * 2000
    whole = sentencepiece.SentencePieceProcessor(model_file=str(tiny_bundle / TOKENIZER)).encode(text)
    assert len(text) > 5 * CHUNK_CHARACTERS
    assert tokenizer.encode(text).ids.tolist() == whole
    assert tokenizer.encode_batch(["cake", text])[1].tolist() == whole


def test_a_long_text_without_spaces_is_cut_and_loses_nothing(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("x" * (2 * CHUNK_CHARACTERS + 1))
    assert np.count_nonzero(tokens.ids == tiny.PIECES.index("x")) == 2 * CHUNK_CHARACTERS + 1
    assert tokens.starts[-1] == 2 * CHUNK_CHARACTERS + 1


def test_a_file_that_is_no_sentencepiece_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken").write_bytes(b"not a model")
    for name in ("broken", "missing"):
        with pytest.raises(BundleError, match="not a SentencePiece model"):
            Tokenizer(tmp_path / name)


def test_other_special_ids_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    model = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]  # made at import
    model.ParseFromString((tiny_bundle / TOKENIZER).read_bytes())
    model.pieces[1].piece = "<mask>"
    (tmp_path / "other").write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match="special ids"):
        Tokenizer(tmp_path / "other")


# --- windows of a text


def test_a_short_text_is_one_window(tokenizer: Tokenizer) -> None:
    (window,) = encode(" the bomb\u200b ", tokenizer).windows
    assert window.ids.tolist() == ids(tiny.PIECES.index("▁the"), tiny.BOMB)
    assert (window.begin, window.end) == (0, 11)


def test_a_text_that_just_fits_is_one_window(tokenizer: Tokenizer) -> None:
    assert [len(window.ids) for window in encode("cake " * 14, tokenizer).windows] == [16]
    assert [len(window.ids) for window in encode("cake " * 15, tokenizer).windows] == [16, 16]


@pytest.mark.parametrize("text", ["", " \n\t ", "\u200b\x00", "\u2028", "\ud800", " " * 10_000])
def test_a_text_with_nothing_to_read_has_no_window(text: str, tokenizer: Tokenizer) -> None:
    assert encode(text, tokenizer) == Encoded((), 1.0)


def test_windows_are_full_and_overlap(tokenizer: Tokenizer) -> None:
    windows = encode("cake " * 30, tokenizer).windows
    assert [len(window.ids) for window in windows] == [16, 16, 16]
    assert [(window.begin // 5, window.end // 5) for window in windows] == [(0, 13), (9, 23), (15, 30)]
    assert windows[-1].end == 150


def test_windows_of_a_text_whose_characters_grow_cover_the_original(tokenizer: Tokenizer) -> None:
    text = "\u200b" + "ﷺ" * 40 + "\u200b"
    windows = encode(text, tokenizer).windows
    assert windows[0].begin == 0
    assert windows[-1].end == len(text)
    assert all(after.begin <= before.end for before, after in pairwise(windows))


def test_characters_beyond_the_vocabulary_are_not_covered(tokenizer: Tokenizer) -> None:
    encoded = encode("cake 中中中中", tokenizer)
    assert UNK_ID in encoded.windows[0].ids
    assert encoded.coverage == pytest.approx(1 - 4 / 9)


# --- windows of a pair


def test_a_pair_is_prompt_then_response(tokenizer: Tokenizer) -> None:
    (encoded,) = encode_pairs([("habari", "bomb")], tokenizer=tokenizer, size=SIZE)
    assert encoded.windows[0].ids.tolist() == [BOS_ID, tiny.HABARI, EOS_ID, EOS_ID, tiny.BOMB, EOS_ID]
    assert (encoded.windows[0].begin, encoded.windows[0].end) == (0, 4)


def test_a_long_prompt_keeps_its_end_in_half_of_the_window(tokenizer: Tokenizer) -> None:
    (encoded,) = encode_pairs([("bomb " * 20 + "cake " * 5, "the")], tokenizer=tokenizer, size=SIZE)
    assert encoded.windows[0].ids.tolist()[:9] == [BOS_ID, tiny.BOMB, *[tiny.CAKE] * 5, EOS_ID, EOS_ID]


def test_each_window_of_a_long_response_has_the_prompt(tokenizer: Tokenizer) -> None:
    (encoded,) = encode_pairs([("habari", "cake " * 30)], tokenizer=tokenizer, size=SIZE)
    head = [BOS_ID, tiny.HABARI, EOS_ID, EOS_ID]
    assert [window.ids.tolist()[:4] for window in encoded.windows] == [head] * len(encoded.windows)
    assert [len(window.ids) for window in encoded.windows] == [16] * len(encoded.windows)
    assert (encoded.windows[0].begin, encoded.windows[-1].end) == (0, 150)


def test_an_empty_prompt_leaves_the_response_alone(tokenizer: Tokenizer) -> None:
    (encoded,) = encode_pairs([(" ", "bomb")], tokenizer=tokenizer, size=SIZE)
    assert encoded.windows[0].ids.tolist() == ids(tiny.BOMB)


def test_an_empty_response_has_no_window(tokenizer: Tokenizer) -> None:
    (encoded,) = encode_pairs([("bomb", "")], tokenizer=tokenizer, size=SIZE)
    assert not encoded.windows
