"""A tiny bundle whose model scores by a visible rule, so that an expected number can be worked out by eye.

Each token adds to the logits, which start at `BIAS`: "bomb" adds 8 to unsafe and to the category weapons, "habari"
makes the text Swahili. So no bomb is sigmoid(-4) = .018, one is sigmoid(4) = .982.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import sentencepiece
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sentencepiece import sentencepiece_model_pb2

from crest.backend import Logits
from crest.bundle import CALIBRATION, MODEL, TOKENIZER, Manifest, write_manifest
from crest.calibration import Calibration, LanguageThreshold
from crest.taxonomy import CATEGORIES

LANGUAGES = ("en", "sw")
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
WORDS = ("▁bomb", "▁cake", "▁habari", "▁the", "▁", "日", "本", "ক", "é")
LETTERS = tuple(map(chr, range(33, 127)))
PIECES = (*SPECIAL, *WORDS, *LETTERS)
BOMB, CAKE, HABARI = (PIECES.index(word) for word in ("▁bomb", "▁cake", "▁habari"))
SAFE, ONE_BOMB = 1 / (1 + np.exp(4.0)), 1 / (1 + np.exp(-4.0))

_WEAPONS = 1 + CATEGORIES.index("weapons")
_LANGUAGE = 1 + len(CATEGORIES)


def rule() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what each token adds to the logits, and where they start; columns: unsafe, categories, languages."""
    table = np.zeros((len(PIECES), _LANGUAGE + len(LANGUAGES)), dtype=np.float32)
    table[BOMB, [0, _WEAPONS]] = 8
    table[HABARI, _LANGUAGE + 1] = 4
    start = np.full(table.shape[1], -4, dtype=np.float32)
    start[_LANGUAGE:] = (2, 0)
    return table, start


class RuleBackend:
    """The rule without ONNX; it keeps the shapes of the batches that it was given."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Logits:
        self.shapes.append(ids.shape)
        table, start = rule()
        logits = (table[ids] * mask[:, :, None]).sum(axis=1) + start
        return Logits(logits[:, 0], logits[:, 1:_LANGUAGE], logits[:, _LANGUAGE:])


def write_model(path: Path) -> None:
    """Write the rule as an ONNX graph."""
    table, start = rule()
    constants = {"table": table, "start": start, "last": np.array([2]), "first": np.array([0]), "tokens": np.array([1])}
    constants |= {"sizes": np.array([1, len(CATEGORIES), len(LANGUAGES)])}
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["rows", "mask3"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "tokens"], ["sum"], keepdims=0),
        helper.make_node("Add", ["sum", "start"], ["logits"]),
        helper.make_node("Split", ["logits", "sizes"], ["column", "category", "language"], axis=1),
        helper.make_node("Squeeze", ["column", "tokens"], ["unsafe"]),
    ]
    graph = helper.make_graph(
        nodes,
        "rule",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"])
            for name in ("input_ids", "attention_mask")
        ],
        [
            helper.make_tensor_value_info("unsafe", TensorProto.FLOAT, ["n"]),
            helper.make_tensor_value_info("category", TensorProto.FLOAT, ["n", len(CATEGORIES)]),
            helper.make_tensor_value_info("language", TensorProto.FLOAT, ["n", len(LANGUAGES)]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))


def write_tokenizer(path: Path) -> None:
    """Write a SentencePiece model with XLM-R's normaliser and a vocabulary of a hundred pieces."""
    model = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]  # made at import
    for place, piece in enumerate(PIECES):
        score = -len(PIECES) if len(piece) == 1 else -1.0
        model.pieces.add(piece=piece, score=score, type=2 if place == 3 else 3 if place < 3 else 1)
    model.trainer_spec.model_type = 1
    model.trainer_spec.bos_id, model.trainer_spec.pad_id = 0, 1
    model.trainer_spec.eos_id, model.trainer_spec.unk_id = 2, 3
    normalizer = sentencepiece.SentencePieceNormalizer(rule_name="nmt_nfkc")
    model.normalizer_spec.ParseFromString(normalizer.serialized_normalizer_spec())
    path.write_bytes(model.SerializeToString())


def write_bundle(folder: Path) -> Path:
    """Write the whole bundle: windows of 16 tokens that share 4; Swahili has a threshold of its own."""
    write_model(folder / MODEL)
    write_tokenizer(folder / TOKENIZER)
    Calibration(languages={"sw": LanguageThreshold(0.99, n_benign=100)}).save(folder / CALIBRATION)
    manifest = Manifest("tiny", "1", "Apache-2.0", CATEGORIES, LANGUAGES, max_tokens=16, overlap_tokens=4)
    write_manifest(folder, manifest)
    return folder
