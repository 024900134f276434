"""Assemble the training set: read every source, keep folds aside, balance, switch codes, choose the vocabulary.

Writes `train.jsonl`, `dev.jsonl`, `test.jsonl` (labelled rows), `benign-calibrate.jsonl`, `benign-test.jsonl` (running
text), `language.jsonl` (sentences for the language head), `pieces.npy`, `tokenizer.model` and `statistics.json`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from crest.encode import normalise
from crest.errors import RecipeError
from crest.pipeline import sources
from crest.pipeline.recipe import FoldSettings, MixSettings, Recipe
from crest.pipeline.sources import Row
from crest.pipeline.vocabulary import choose_pieces, write_tokenizer

_WORD = re.compile(r"[A-Za-z']+")


def assemble(recipe: Recipe, *, data_dir: Path, encoder: Path, out: Path) -> None:
    """Write the training set and its tokenizer to a folder.

    Args:
        recipe: The recipe.
        data_dir: Folder of the data sets.
        encoder: Folder of the encoder, for its `tokenizer.json`.
        out: Where to write.

    Raises:
        RecipeError: If the data folder lacks a source named in the recipe's mix, or dictionaries to switch codes with.
    """
    rng = np.random.default_rng(recipe.train.seed)
    asked = set(recipe.texts.languages)
    folds = Folds(recipe.folds, keys_of_languages(data_dir, recipe.folds.languages))
    rows: dict[str, list[Row]] = {"train": [], "dev": [], "test": []}
    for name, mix in recipe.mix.items():
        for row in _capped(_source(data_dir, name, mix), mix.cap, rng):
            fold = folds.of(row)
            if fold in {"dev", "test"}:
                rows[fold].append(row)
            elif fold == "train" and (not asked or row.language in asked):
                rows["train"] += [row] * mix.repeat
    unique = list({row.text: row for row in rows["train"] if row.source == "corpus"}.values())
    rows["train"] += switched(unique, data_dir, copies=recipe.texts.switched, languages=asked, rng=rng)
    held = {normalise(row.text).text for fold in ("dev", "test") for row in rows[fold]}
    rows["train"] = [row for row in rows["train"] if normalise(row.text).text not in held]
    language, calibrate, test = [], [], []
    for code, texts in sources.running_text(data_dir):
        parts = _parts(texts, code, recipe, held)
        calibrate += parts["calibrate"]
        test += parts["test"]
        if not asked or code in asked:
            rows["train"] += parts["safe"]
        language += parts["language"]
    if not calibrate:
        # Without running text, safe lines of the fold that development may look at stand in.
        calibrate = [row for row in rows["dev"] if row.label == "safe"]
    for name, part in {**rows, "benign-calibrate": calibrate, "benign-test": test, "language": language}.items():
        _write(out / f"{name}.jsonl", part)
    write_tokenizer(encoder / "tokenizer.json", out / "full.model")
    corpora = _corpora(data_dir, rows["train"]) if recipe.encoder.pieces else ()
    pieces = choose_pieces(out / "full.model", corpora, pieces=recipe.encoder.pieces)
    np.save(out / "pieces.npy", pieces)
    write_tokenizer(encoder / "tokenizer.json", out / "tokenizer.model", keep=pieces)
    (out / "full.model").unlink()
    statistics = {"pieces": len(pieces), **{name: _count(part) for name, part in rows.items()}}
    (out / "statistics.json").write_text(json.dumps(statistics, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


class Folds:
    """Decides by the hash of its key on which side of the split a row is, whatever else the training set holds.

    Args:
        settings: Shares of the folds.
        keys: The keys that are translated into the languages kept aside.
    """

    def __init__(self, settings: FoldSettings, keys: frozenset[str]) -> None:
        self._settings = settings
        self._keys = keys

    def of(self, row: Row) -> str:
        """Return "train", "dev", "test" or "none".

        Only our own sets are split; the others are for training alone. A translated line of a language kept aside
        belongs nowhere ("none") if its English original is trained on.
        """
        if row.source not in sources.LABELLED:
            return "train"
        place = share(row.key)
        test = self._settings.test_of_languages if row.key in self._keys else self._settings.test
        if place < test:
            return "test"
        if place < test + self._settings.dev:
            return "dev"
        return "none" if row.source == "translated" and row.language in self._settings.languages else "train"


def share(text: str) -> float:
    """Return a number from 0 to 1 that depends on the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big") / 2**56


def keys_of_languages(data_dir: Path, languages: Iterable[str]) -> frozenset[str]:
    """Return the keys of the corpus lines that are translated into some languages."""
    asked = set(languages)
    return frozenset(row.key for row in sources.translated(data_dir) if row.language in asked) if asked else frozenset()


def switched(
    rows: Iterable[Row], data_dir: Path, *, copies: int, languages: set[str], rng: np.random.Generator
) -> list[Row]:
    """Return English rows with 30-100 % of their words replaced by a dictionary's, in random languages.

    Safe and unsafe rows alike. The language of the result is mixed, so it is left empty.
    """
    if not copies:
        return []
    paths = {
        path.name.removesuffix(".tsv.xz"): path for path in (data_dir / "multilingual/dictionary").glob("*.tsv.xz")
    }
    words = {code: sources.dictionary(paths[code]) for code in sorted(paths) if not languages or code in languages}
    if not words:
        raise RecipeError(f"there are no dictionaries in {data_dir / 'multilingual/dictionary'}; set switched = 0")
    codes = sorted(words)
    result = []
    for row in rows:
        for code in rng.choice(codes, size=copies, replace=copies > len(codes)).tolist():
            text = _switch(row.text, words[code], rng.uniform(0.3, 1.0), rng)
            result.append(Row(row.key, text, row.label, row.category, "", "switched"))
    return result


def _switch(text: str, words: Mapping[str, list[str]], ratio: float, rng: np.random.Generator) -> str:
    def replace(match: re.Match[str]) -> str:
        others = words.get(match[0].lower())
        return others[rng.integers(len(others))] if others and rng.random() < ratio else match[0]

    return _WORD.sub(replace, text)


def _source(data_dir: Path, name: str, mix: MixSettings) -> Iterator[Row]:
    """Yield the rows of one source that our policy agrees with."""
    if name in sources.LABELLED:
        yield from sources.LABELLED[name](data_dir)
        return
    for row, category in sources.safety_set(data_dir / f"safety/train/{name}.jsonl.xz"):
        unsafe = row.label == "unsafe"
        if unsafe and category.startswith(mix.skip_categories or ("\0",)):
            continue
        if unsafe and mix.unsafe_categories and category not in mix.unsafe_categories:
            continue
        if row.language:
            yield row


def _capped(rows: Iterable[Row], cap: int, rng: np.random.Generator) -> Iterator[Row]:
    """Yield at most `cap` rows of each language and label, chosen at random."""
    if not cap:
        yield from rows
        return
    shuffled = list(rows)
    rng.shuffle(shuffled)
    seen: Counter[tuple[str, str]] = Counter()
    for row in shuffled:
        seen[row.language, row.label] += 1
        if seen[row.language, row.label] <= cap:
            yield row


def _parts(texts: list[str], code: str, recipe: Recipe, held: set[str]) -> dict[str, list[Row]]:
    """Deal benign sentences out to their uses, by the hash of each sentence."""
    settings = recipe.texts
    ordered = sorted({text for text in texts if normalise(text).text not in held}, key=share)
    wanted = {
        "test": settings.test,
        "calibrate": settings.calibrate,
        "safe": settings.safe,
        "language": settings.language,
    }
    parts, begin = {}, 0
    for name, size in wanted.items():
        label = "" if name == "language" else "safe"
        parts[name] = [
            Row(f"text/{text}", text, label, "", code, "monolingual") for text in ordered[begin : begin + size]
        ]
        begin += size
    return parts


def _corpora(data_dir: Path, rows: Iterable[Row]) -> Iterator[str]:
    """Yield the texts that vocabulary pieces are counted in."""
    for row in rows:
        yield row.text
    for _code, texts in sources.running_text(data_dir):
        yield from texts
    for path in sorted((data_dir / "multilingual/dictionary").glob("*.tsv.xz")):
        for others in sources.dictionary(path).values():
            yield from others


def _write(path: Path, rows: Iterable[Row]) -> None:
    path.write_text("".join(f"{row.to_json()}\n" for row in rows), encoding="utf-8")


def _count(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """Count rows by source and label, and by language and label."""
    counts: Counter[tuple[str, str]] = Counter()
    for row in rows:
        counts[row.source, row.label] += 1
        counts[row.language or "mixed", row.label] += 1
    result: dict[str, dict[str, int]] = {}
    for (name, label), count in sorted(counts.items()):
        result.setdefault(name, {})[label or "unlabelled"] = count
    return result
