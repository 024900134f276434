"""Write a trained model as a bundle, and measure that the bundle says what the trained model says.

Reads the folders of `assemble` and `train`; writes the bundle's files except the calibrated thresholds, and
`parity.json`.
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from crest.backend import OnnxBackend
from crest.bundle import Manifest, write_manifest
from crest.calibration import Calibration
from crest.encode import Tokenizer
from crest.pipeline.card import LICENCES, write_card
from crest.pipeline.encoder import Encoder, Heads, load_encoder
from crest.pipeline.examples import LANGUAGES, Examples, batches, stack_ids, tokenise
from crest.pipeline.graph import Weights, build_graph, write_graph
from crest.pipeline.quantise import choose_ranges, widest_channels
from crest.pipeline.recipe import Recipe
from crest.pipeline.sources import read_rows
from crest.taxonomy import CATEGORIES

PARITY_TEXTS = 2000
RANGE_TEXTS = 1500


def export(recipe: Recipe, *, assembled: Path, trained: Path, encoder: Path, out: Path) -> None:
    """Write the bundle of a trained model.

    Args:
        recipe: The recipe.
        assembled: Folder that `assemble` wrote.
        trained: Folder that `train` wrote.
        encoder: Hugging Face folder of the encoder, for its size and its vocabulary.
        out: Where to write.
    """
    model = load_trained(recipe, assembled=assembled, trained=trained, encoder=encoder)
    samples = range_samples(recipe, assembled)
    wide = widest_channels(model, samples)
    ranges = choose_ranges(model, samples, rng=np.random.default_rng(recipe.train.seed), wide=wide)
    tensors = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    weights = Weights(model.shape, model.heads, tensors, model.vocabulary.numpy())
    write_graph(build_graph(weights, ranges=ranges, wide=wide), out)
    (out / "tokenizer.model").write_bytes((assembled / "tokenizer.model").read_bytes())
    Calibration(threshold=recipe.calibrate.min_threshold).save(out / "calibration.json")
    parity = measure_parity(model, out, assembled=assembled, recipe=recipe)
    (out.parent / "parity.json").write_text(json.dumps(parity, indent=1) + "\n", encoding="utf-8")
    manifest = describe(recipe, assembled)
    card = write_card(recipe, sources=manifest.sources, parity=parity, pieces=len(weights.vocabulary))
    (out / "CARD.md").write_text(card, encoding="utf-8")
    write_manifest(out, manifest)


def range_samples(recipe: Recipe, assembled: Path) -> list[torch.Tensor]:
    """Return token ids of some training rows, in batches of one length, to choose 8-bit ranges on."""
    rng = np.random.default_rng(recipe.train.seed)
    rows = read_rows(assembled / "train.jsonl")
    rows = [rows[place] for place in rng.permutation(len(rows))[:RANGE_TEXTS]]
    examples = tokenise(rows, Tokenizer(assembled / "tokenizer.model"), max_tokens=recipe.train.max_tokens)
    return [torch.from_numpy(ids) for _, ids in _batches(examples)]


def load_trained(recipe: Recipe, *, assembled: Path, trained: Path, encoder: Path) -> Encoder:
    """Return the trained model in float32."""
    from safetensors.torch import load_file

    heads = Heads(len(CATEGORIES), len(LANGUAGES), recipe.train.language_layer)
    model = load_encoder(encoder, heads, pieces=np.load(assembled / "pieces.npy")).eval()
    model.load_state_dict(load_file(trained / "model.safetensors"))
    return model


def measure_parity(model: Encoder, bundle: Path, *, assembled: Path, recipe: Recipe) -> dict[str, float]:
    """Compare the bundle's scores with the trained model's on held-out texts of all languages.

    Returns:
        How many texts, the median, 99th percentile and maximum of |difference of the score|, and the share of texts
        whose verdict at 0.5 differs.
    """
    rng = np.random.default_rng(recipe.train.seed)
    rows = [*read_rows(assembled / "test.jsonl"), *read_rows(assembled / "benign-test.jsonl")]
    rows = [rows[place] for place in rng.permutation(len(rows))[:PARITY_TEXTS]]
    tokenizer = Tokenizer(assembled / "tokenizer.model")
    examples = tokenise(rows, tokenizer, max_tokens=recipe.export.max_tokens)
    backend = OnnxBackend(bundle / "model.onnx", threads=recipe.train.threads)
    expected, found = np.zeros(len(rows)), np.zeros(len(rows))
    for places, ids in _batches(examples):
        found[places] = backend.run(ids, np.ones_like(ids)).unsafe
        with torch.no_grad():
            expected[places] = model(torch.from_numpy(ids)).unsafe.numpy()
    expected, found = 1 / (1 + np.exp(-expected)), 1 / (1 + np.exp(-found))
    difference = np.abs(found - expected)
    return {
        "texts": len(rows),
        "median": float(np.median(difference)),
        "p99": float(np.quantile(difference, 0.99)),
        "max": float(difference.max()),
        "flipped": float(np.mean((found >= 0.5) != (expected >= 0.5))),
    }


def describe(recipe: Recipe, assembled: Path) -> Manifest:
    """Return the manifest of a model made by a recipe."""
    rows = Counter(row.source for row in read_rows(assembled / "train.jsonl"))
    return Manifest(
        name=f"crest-{recipe.name}",
        revision=recipe.fingerprint("export"),
        licence="Apache-2.0",
        categories=CATEGORIES,
        languages=LANGUAGES,
        max_tokens=recipe.export.max_tokens,
        overlap_tokens=recipe.export.overlap_tokens,
        recipe={"name": recipe.name, "sha256": recipe.fingerprint("export")},
        git_commit=_commit(),
        sources=tuple({"name": n, "rows": rows[n], "licence": LICENCES.get(n, "unknown")} for n in sorted(rows)),
    )


def _batches(examples: Examples) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    lengths = np.array([len(ids) for ids in examples.ids], dtype=np.int64)
    for places in batches(lengths, batch_tokens=2000, rng=np.random.default_rng(0)):
        yield places, stack_ids(examples, places)


def _commit() -> str:
    """Return the commit of the working tree that the lab runs from, or "unknown" outside one."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
