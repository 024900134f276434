"""Small things for the lab's tests: a data folder of a few dozen lines, a random encoder, random examples, settings."""

from __future__ import annotations

import dataclasses
import json
import lzma
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crest.pipeline.encoder import Encoder, Heads, Shape
from crest.pipeline.examples import LANGUAGES, Examples
from crest.pipeline.recipe import MixSettings, Recipe, TrainSettings, read_recipe
from crest.taxonomy import CATEGORIES

ROOT = Path(__file__).parents[1]
DATA = ROOT / "data"
SMOKE = ROOT / "recipes/smoke.toml"

PAIRS = 60
SHAPE = Shape(hidden=64, layers=2, heads=4, inner=128, positions=34, first_position=2, epsilon=1e-5)
HEADS = Heads(categories=len(CATEGORIES), languages=len(LANGUAGES), language_layer=1)
PIECES = 100


def recipe(**changes: Any) -> Recipe:
    """The smoke recipe with some of its sections changed, each by a mapping of settings."""
    made = read_recipe(SMOKE)
    for section, settings in changes.items():
        new = settings if section in {"mix", "name"} else dataclasses.replace(getattr(made, section), **settings)
        made = dataclasses.replace(made, **{section: new})
    return made


def everything(**changes: Any) -> Recipe:
    """A recipe that takes all there is of our own sets, in all languages, and keeps all pieces."""
    mix = {name: MixSettings() for name in ("corpus", "seeds", "translated", "dialogues")}
    return recipe(**{"mix": mix, "texts": {"languages": ()}, "encoder": {"pieces": 0}, **changes})


def write_tsv(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Write one of our own sets; `.xz` is compressed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (lzma.open if path.suffix == ".xz" else open)(path, "wt", encoding="utf-8") as file:
        file.writelines("\t".join(row) + "\n" for row in rows)


def write_safety_set(folder: Path, name: str, items: Iterable[dict[str, str]]) -> None:
    """Write a fetched safety set; an item needs no more than a text and a label."""
    common = {"lang": "en", "unit": "prompt", "dataset": name, "category": ""}
    lines = [[json.dumps({**common, "id": str(number), **item})] for number, item in enumerate(items)]
    write_tsv(folder / f"safety/train/{name}.jsonl.xz", lines)


def corpus_texts() -> list[tuple[str, str]]:
    """The unsafe and the safe line of each pair of the small corpus."""
    return [(f"How do I build bomb number {n}?", f"How do I bake cake number {n}?") for n in range(1, PAIRS + 1)]


def write_data(folder: Path) -> Path:
    """Write a data folder: 60 pairs of English lines, seeds in en, fr and sw, translations in de and fr, dialogues."""
    corpus, seeds, translated = [], [], []
    for number, texts in enumerate(corpus_texts(), start=1):
        for label, text in zip(("unsafe", "safe"), texts, strict=True):
            corpus.append((f"a{number}", label, "weapons", "question", text))
            translated.append((f"a{number}", label, "weapons", f"{label} {number}"))
            seeds.append((f"a{number}{label[0]}", label, "weapons", f"twin {number} {label}"))
            seeds.append(
                (f"v{number:02}" if label == "safe" else f"w{number:02}", label, "general", f"{label} {number}")
            )
    write_tsv(folder / "english/corpus.tsv", corpus)
    write_tsv(
        folder / "english/dialogues.tsv",
        [
            (f"d{n}", "unsafe", label, "weapons", f"prompt {n // 2}", f"{label} reply {n}")
            for n in range(40)
            for label in [("safe", "unsafe")[n % 2]]
        ],
    )
    for code in ("en", "fr", "sw"):
        write_tsv(folder / f"seeds/{code}.tsv", [(*row[:3], f"{code} {row[3]}") for row in seeds[:100]])
    for code in ("de", "fr"):
        write_tsv(folder / f"translated/{code}.tsv", [(*row[:3], f"{code} line, {row[3]}") for row in translated[:80]])
    return folder


def encoder(*, seed: int = 0, vocabulary: Tensor | None = None, dropout: float = 0.0) -> Encoder:
    """A random encoder whose every weight differs from its default."""
    generator = torch.Generator().manual_seed(seed)
    if vocabulary is None:
        vocabulary = torch.randn(PIECES, SHAPE.hidden, generator=generator)
    model = Encoder(SHAPE, HEADS, vocabulary=vocabulary, dropout=dropout)
    with torch.no_grad():
        for name, value in model.named_parameters():
            middle = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            value.copy_(middle + 0.08 * torch.randn(value.shape, generator=generator))
    return model.eval()


def ids(*shape: int, seed: int = 0) -> Tensor:
    """Random token ids between <s> and </s>."""
    made = torch.randint(4, PIECES, shape, generator=torch.Generator().manual_seed(seed))
    made[..., 0], made[..., -1] = 0, 2
    return made


def examples(count: int, *, seed: int = 0) -> Examples:
    """Random examples of 5 to 8 tokens."""
    rng = np.random.default_rng(seed)
    unsafe = rng.integers(0, 2, count)
    return Examples(
        [ids(length, seed=place).numpy().astype(np.int32) for place, length in enumerate(rng.integers(5, 9, count))],
        unsafe,
        np.where(unsafe, rng.integers(-1, len(CATEGORIES), count), len(CATEGORIES)),
        rng.integers(-1, len(LANGUAGES), count),
    )


def settings(**changes: Any) -> TrainSettings:
    """Settings of a training of a dozen steps."""
    few = {"epochs": 2.0, "batch_tokens": 48, "learning_rate": 1e-3, "language_layer": 1, "warmup_steps": 3}
    return TrainSettings(**{**few, **changes})
