"""Choose the vocabulary pieces worth keeping, and write them as a SentencePiece model.

Removing pieces from a Unigram model is exact: the scores of the others stay, and text falls back to shorter pieces.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crest.encode import EOS_ID, UNK_ID, normalise
from crest.errors import RecipeError

SPECIAL = UNK_ID + 1  # <s> <pad> </s> <unk> come first
_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3


def write_tokenizer(tokenizer_json: Path, out: Path, *, keep: NDArray[np.int64] | None = None) -> int:
    """Write a SentencePiece model whose ids are the model's ids.

    Args:
        tokenizer_json: The `tokenizer.json` of an XLM-R-like encoder (Unigram, ids 0-3 special).
        out: Where to write.
        keep: Ids to keep, in their new order; all but `<mask>` by default.

    Returns:
        The number of pieces written.

    Raises:
        RecipeError: If the file cannot be read or holds another kind of tokenizer.
    """
    from sentencepiece import sentencepiece_model_pb2

    try:
        content = json.loads(tokenizer_json.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(f"cannot read {tokenizer_json}: {error}") from error
    if content["model"]["type"] != "Unigram" or content["model"]["unk_id"] != UNK_ID:
        raise RecipeError(f"{tokenizer_json} is not the Unigram tokenizer of an XLM-R-like encoder")
    pieces = content["model"]["vocab"]
    if keep is None:
        keep = np.arange(len(pieces) - (pieces[-1][0] == "<mask>"))
    model = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]  # made at import
    for new, old in enumerate(keep.tolist()):
        kind = _UNKNOWN if new == UNK_ID else _CONTROL if new <= EOS_ID else _NORMAL
        model.pieces.add(piece=pieces[old][0], score=pieces[old][1], type=kind)
    model.trainer_spec.model_type = 1
    model.trainer_spec.bos_id, model.trainer_spec.pad_id = 0, 1
    model.trainer_spec.eos_id, model.trainer_spec.unk_id = EOS_ID, UNK_ID
    charsmap = _find(content["normalizer"], "precompiled_charsmap")
    if charsmap:
        model.normalizer_spec.precompiled_charsmap = base64.b64decode(charsmap)
    model.normalizer_spec.add_dummy_prefix = True
    model.normalizer_spec.remove_extra_whitespaces = True
    model.normalizer_spec.escape_whitespaces = True
    out.write_bytes(model.SerializeToString())
    return len(keep)


def choose_pieces(tokenizer: Path, texts: Iterable[str], *, pieces: int) -> NDArray[np.int64]:
    """Return the ids of the special pieces, all single characters and the most frequent others, ascending.

    Args:
        tokenizer: The full SentencePiece model.
        texts: The corpora to count in.
        pieces: How many to keep; 0 keeps all.
    """
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
    size = model.get_piece_size()
    if not 0 < pieces < size:
        return np.arange(size)
    counts = np.zeros(size, dtype=np.int64)
    stream = iter(texts)
    while batch := [normalise(text).text for text in islice(stream, 20_000)]:
        for ids in model.encode(batch, out_type="numpy", num_threads=2):
            np.add.at(counts, ids, 1)
    single = np.array([len(model.id_to_piece(place).lstrip("▁")) <= 1 for place in range(size)])
    single[:SPECIAL] = True
    counts[single] = np.iinfo(np.int64).max
    return np.sort(np.argsort(-counts, kind="stable")[:pieces])


def _find(tree: Any, name: str) -> str | None:
    """Return the first value under a key, anywhere in a JSON tree."""
    if isinstance(tree, dict):
        if name in tree:
            return str(tree[name])
        tree = list(tree.values())
    if isinstance(tree, list):
        return next((found for each in tree if (found := _find(each, name))), None)
    return None
