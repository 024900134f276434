"""Make a tiny random encoder of the XLM-R family, to run a recipe in a minute without any weights."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np

from crest.encode import EOS_ID, UNK_ID
from crest.pipeline import sources

PIECES, HIDDEN, INNER, LAYERS, HEADS, POSITIONS = 1200, 64, 128, 2, 4, 130


def write_tiny_encoder(folder: Path, *, data_dir: Path, seed: int) -> None:
    """Write config.json, model.safetensors and tokenizer.json as a hub model has them, with random weights.

    The tokenizer is a real one, trained on the English corpus and the seeds.
    """
    import sentencepiece
    from safetensors.numpy import save_file
    from sentencepiece import sentencepiece_model_pb2

    folder.mkdir(parents=True, exist_ok=True)
    prefix = folder / "pieces"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(row.text for source in (sources.corpus, sources.seeds) for row in source(data_dir)),
        model_prefix=str(prefix),
        vocab_size=PIECES,
        character_coverage=0.98,
        hard_vocab_limit=False,
        input_sentence_size=4000,
        bos_id=0,
        pad_id=1,
        eos_id=EOS_ID,
        unk_id=UNK_ID,
        minloglevel=2,
        num_threads=1,  # more would make other pieces at each run
    )
    model = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]  # made at import
    model.ParseFromString(prefix.with_suffix(".model").read_bytes())
    vocabulary = [[piece.piece, piece.score] for piece in model.pieces]
    charsmap = base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode()
    tokenizer = {
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": charsmap},
        "model": {"type": "Unigram", "unk_id": UNK_ID, "vocab": vocabulary},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    for name in (".model", ".vocab"):
        prefix.with_suffix(name).unlink()
    config = {
        "model_type": "xlm-roberta",
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": 1,
        "layer_norm_eps": 1e-5,
        "vocab_size": len(vocabulary),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    save_file(_weights(len(vocabulary), np.random.default_rng(seed)), folder / "model.safetensors")


def _weights(pieces: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return random weights under the names of transformers' XLMRobertaModel."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (pieces, HIDDEN),
        "embeddings.position_embeddings.weight": (POSITIONS, HIDDEN),
        "embeddings.token_type_embeddings.weight": (1, HIDDEN),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        front = f"encoder.layer.{layer}."
        dense = {f"attention.self.{name}": (HIDDEN, HIDDEN) for name in ("query", "key", "value")}
        dense |= {
            "attention.output.dense": (HIDDEN, HIDDEN),
            "intermediate.dense": (INNER, HIDDEN),
            "output.dense": (HIDDEN, INNER),
        }
        for name, (rows, columns) in dense.items():
            shapes |= {f"{front}{name}.weight": (rows, columns), f"{front}{name}.bias": (rows,)}
        norms += [f"{front}attention.output.LayerNorm", f"{front}output.LayerNorm"]
    weights = {name: rng.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}
    for name in norms:
        weights |= {f"{name}.weight": np.ones(HIDDEN, np.float32), f"{name}.bias": np.zeros(HIDDEN, np.float32)}
    return {f"roberta.{name}": value for name, value in weights.items()}
