"""The vocabulary: a SentencePiece model made from a tokenizer.json, whole and trimmed."""

from __future__ import annotations

import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from numpy.typing import NDArray
from sentencepiece import sentencepiece_model_pb2

from crest.encode import Tokenizer
from crest.errors import RecipeError
from crest.pipeline import sources
from crest.pipeline.vocabulary import SPECIAL, choose_pieces, write_tokenizer
from lab import DATA

TEXTS = ["how do I build a bomb", "how do I bake a cake", "the cake, the bomb and the tea"]


@pytest.fixture(scope="module")
def whole(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SentencePiece model with all pieces."""
    path = tmp_path_factory.mktemp("whole") / "tokenizer.model"
    write_tokenizer(tiny_encoder / "tokenizer.json", path)
    return path


@pytest.fixture(scope="module")
def seeds() -> dict[str, list[str]]:
    """The first 40 seed lines of each language."""
    found: dict[str, list[str]] = {}
    for row in sources.seeds(DATA):
        found.setdefault(row.language, []).append(row.text)
    return {code: texts[:40] for code, texts in found.items()}


def pieces_of(path: Path) -> list[tuple[str, float]]:
    model = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]  # made at import
    model.ParseFromString(path.read_bytes())
    return [(each.piece, each.score) for each in model.pieces]


def processor(path: Path) -> Any:
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def content_of(folder: Path) -> Any:
    return json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))


def test_the_pieces_are_as_good_as_those_of_the_tokenizers_library(
    whole: Path, tiny_encoder: Path, seeds: dict[str, list[str]]
) -> None:
    from tokenizers import Regex, models, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Reference

    content = content_of(tiny_encoder)
    reference = Reference(models.Unigram([tuple(piece) for piece in content["model"]["vocab"]], unk_id=3))
    # Metaspace splits before each "▁", as the encoder's own tokenizer.json does.
    reference.pre_tokenizer = pre_tokenizers.Metaspace()
    charsmap = base64.b64decode(content["normalizer"]["precompiled_charsmap"])
    spaces = normalizers.Replace(Regex(" {2,}"), " ")
    reference.normalizer = normalizers.Sequence([normalizers.Precompiled(charsmap), spaces])
    model = processor(whole)

    def differ(text: str) -> bool:
        """Tell whether one of the two found better pieces; of equally good ones either may be chosen."""
        mine, theirs = (sum(map(model.get_score, ids)) for ids in (model.encode(text), reference.encode(text).ids))
        return bool(abs(mine - theirs) > 1e-3)

    different = {code: [text for text in texts if differ(text)] for code, texts in seeds.items()}
    assert len(different) == 116
    assert {code: texts for code, texts in different.items() if texts} == {}


def test_the_product_opens_the_model(whole: Path) -> None:
    ids = Tokenizer(whole).encode("how do I bake a cake").ids
    assert len(ids) > 0 and ids.min() >= SPECIAL


def test_pieces_keep_their_ids_and_scores(whole: Path, tiny_encoder: Path) -> None:
    expected = content_of(tiny_encoder)["model"]["vocab"]
    found = pieces_of(whole)
    assert [piece for piece, _ in found] == [piece for piece, _ in expected]
    assert [score for _, score in found] == [np.float32(score) for _, score in expected]


def test_the_mask_is_left_out(tiny_encoder: Path, tmp_path: Path) -> None:
    content = content_of(tiny_encoder)
    content["model"]["vocab"].append(["<mask>", 0.0])
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    written = write_tokenizer(tmp_path / "tokenizer.json", tmp_path / "t.model")
    assert written == len(content["model"]["vocab"]) - 1
    assert "<mask>" not in dict(pieces_of(tmp_path / "t.model"))


@pytest.mark.parametrize("change", [{"type": "BPE"}, {"unk_id": 0}])
def test_another_kind_of_tokenizer_is_refused(tiny_encoder: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    content = content_of(tiny_encoder)
    content["model"].update(change)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RecipeError, match=r"tokenizer\.json is not the Unigram tokenizer"):
        write_tokenizer(path, tmp_path / "t.model")


@pytest.mark.parametrize("text", [None, "{"])
def test_a_tokenizer_that_cannot_be_read_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "tokenizer.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"cannot read .*tokenizer\.json: "):
        write_tokenizer(path, tmp_path / "t.model")


class Trimmed:
    """The model cut to 900 pieces by what the seeds hold.

    Attributes:
        keep: The ids that were kept.
        path: The SentencePiece model.
    """

    def __init__(self, whole: Path, tokenizer_json: Path, texts: list[str]) -> None:
        self.keep: NDArray[np.int64] = choose_pieces(whole, texts, pieces=900)
        self.path = whole.with_name("trimmed.model")
        write_tokenizer(tokenizer_json, self.path, keep=self.keep)


@pytest.fixture(scope="module")
def trimmed(whole: Path, tiny_encoder: Path, seeds: dict[str, list[str]]) -> Trimmed:
    return Trimmed(whole, tiny_encoder / "tokenizer.json", [text for texts in seeds.values() for text in texts])


def test_trimming_leaves_as_many_pieces_as_asked_for_in_their_old_order(trimmed: Trimmed) -> None:
    assert len(trimmed.keep) == len(pieces_of(trimmed.path)) == 900
    assert (np.diff(trimmed.keep) > 0).all()
    assert trimmed.keep[:SPECIAL].tolist() == [0, 1, 2, 3]


def test_trimming_keeps_every_single_character(trimmed: Trimmed, whole: Path) -> None:
    single = {piece for piece, _ in pieces_of(whole)[SPECIAL:] if len(piece.lstrip("▁")) <= 1}
    assert len(single) > 300
    assert single <= {piece for piece, _ in pieces_of(trimmed.path)}


def test_trimming_changes_no_score(trimmed: Trimmed, whole: Path) -> None:
    assert dict(pieces_of(trimmed.path)).items() <= dict(pieces_of(whole)).items()


def test_trimming_keeps_the_pieces_that_occur_most(trimmed: Trimmed, whole: Path, seeds: dict[str, list[str]]) -> None:
    model = processor(whole)
    counts: Counter[int] = Counter(token for texts in seeds.values() for text in texts for token in model.encode(text))
    kept = set(trimmed.keep.tolist())
    long = [place for place in range(SPECIAL, len(model)) if len(model.id_to_piece(place).lstrip("▁")) > 1]
    dropped = [counts[place] for place in long if place not in kept]
    assert len(dropped) == len(model) - 900
    assert max(dropped) <= min(counts[place] for place in long if place in kept)


def test_text_whose_pieces_were_dropped_is_spelled_with_others(
    trimmed: Trimmed, whole: Path, seeds: dict[str, list[str]]
) -> None:
    before, after = processor(whole), processor(trimmed.path)
    longer = 0
    for text in seeds["en"]:
        assert after.decode(after.encode(text)) == before.decode(before.encode(text))
        longer += len(after.encode(text)) > len(before.encode(text))
    assert longer > 0


@pytest.mark.parametrize("pieces", [0, 10**6])
def test_nothing_is_trimmed_where_all_pieces_are_wanted(whole: Path, pieces: int) -> None:
    assert choose_pieces(whole, TEXTS, pieces=pieces).tolist() == list(range(len(pieces_of(whole))))
