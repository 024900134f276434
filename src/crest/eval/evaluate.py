"""Evaluate a model on what it was not trained on: score everything first, then measure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crest import __version__
from crest.errors import InputError
from crest.eval import language_id, metrics
from crest.eval.measures import Measures, means, measure_languages
from crest.eval.metrics import Estimate
from crest.eval.predictions import Judge, Scored, Scorer, fingerprint, read_assembled, read_bench
from crest.languages import PAPER_OOD, PAPER_SOURCES, all_languages

FORMAT = 1
TEST, BENIGN = "test.jsonl", "benign-test.jsonl"
HELD_OUT = ("fr", "pt", "ja", "ko", "fa", "tr", "id", "bn", "it")
"""Languages whose translated corpus lines no recipe trains on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How much is measured.

    Attributes:
        benign_limit: Most benign sentences of a language; 0 for all.
        bench_limit: Most benchmark rows of a language and label; 0 for all.
        draws: Bootstrap draws.
        seed: Of the draws.
        lingua: Compare language identification with the library lingua.
    """

    benign_limit: int = 0
    bench_limit: int = 0
    draws: int = 1000
    seed: int = 1
    lingua: bool = False


def groups() -> dict[str, tuple[str, ...]]:
    """Return the groups of languages that are reported together."""
    table = all_languages()
    return {
        "sources": PAPER_SOURCES,
        "others": tuple(
            each.code for each in table if each.xlmr and not each.romanised and each.code not in PAPER_SOURCES
        ),
        "ood": PAPER_OOD,
        "romanised": tuple(each.code for each in table if each.romanised),
        "bonus": tuple(each.code for each in table if not each.xlmr and not each.romanised),
    }


def evaluate(
    judge: Judge,
    *,
    assembled: Path,
    data_dir: Path | None = None,
    predictions: Path | None = None,
    settings: Settings | None = None,
    progress: Callable[[str], object] = lambda _message: None,
) -> dict[str, Any]:
    """Score and measure a model.

    Args:
        judge: The model.
        assembled: The folder that the pipeline assembled, for the folds kept aside.
        data_dir: The data folder, for the public benchmarks in `safety/bench`; None leaves them out.
        predictions: Keeps what was predicted; None keeps nothing.
        settings: How much is measured.
        progress: Is told how far it is.

    Returns:
        The results, ready for JSON.

    Raises:
        InputError: If an input cannot be read.
        MissingExtraError: If lingua is asked for and not installed.
    """
    settings = settings or Settings()
    scorer = Scorer(judge, folder=predictions, progress=progress)
    sentences = read_assembled(assembled / BENIGN, limit=settings.benign_limit)
    test = scorer.score("test", read_assembled(assembled / TEST))
    benign = scorer.score("benign-test", sentences)
    benches = _score_benches(scorer, data_dir, limit=settings.bench_limit) if data_dir else {}
    progress("measuring")
    rng = np.random.default_rng(settings.seed)
    manifest = judge.manifest
    results: dict[str, Any] = {
        "format": FORMAT,
        "model": {
            "name": manifest.name,
            "revision": manifest.revision,
            "fingerprint": fingerprint(manifest),
            "recipe": dict(manifest.recipe),
            "git_commit": manifest.git_commit,
        },
        "crest": __version__,
        "inputs": {name: hashlib.sha256((assembled / name).read_bytes()).hexdigest() for name in (TEST, BENIGN)},
        "settings": {name: each for name, each in asdict(settings).items() if name != "lingua"},
        "held_out": evaluate_held_out(test, benign, draws=settings.draws, rng=rng),
        "bench": evaluate_bench(benches, benign, draws=settings.draws, rng=rng),
    }
    if settings.lingua:
        progress("asking lingua")
        results["lingua"] = language_id.compare_with_lingua(benign, [each.text for each in sentences])
    plain: dict[str, Any] = _plain(results)
    return plain


def evaluate_held_out(test: Scored, benign: Scored, *, draws: int, rng: np.random.Generator) -> dict[str, Any]:
    """Measure the folds kept aside.

    Args:
        test: Labelled rows of our own sets: seeds, corpus, translated, dialogues.
        benign: Benign running text.
        draws: Bootstrap draws.
        rng: Source of randomness.

    Raises:
        InputError: If there are no seeds among the rows.
    """
    seeds = test.where(test.source == "seeds")
    if not len(seeds):
        raise InputError(f"{TEST} has no rows of the seeds; assemble with the seeds in the recipe's mix")
    by_language = _by_language(benign)
    languages = measure_languages(seeds, benign=by_language, draws=draws, rng=rng)
    weights = metrics.resample(seeds.key, draws=draws, rng=rng)
    found: dict[str, Any] = {
        "groups": {name: means(languages, codes) for name, codes in groups().items()},
        "languages": languages,
        "seeds": {
            "f1": metrics.f1(seeds.flagged, seeds.unsafe, weights=weights),
            "ece": metrics.ece(seeds.score, seeds.unsafe, weights=weights),
        },
    }
    for source in ("corpus", "dialogues", "translated"):
        rows = test.where(test.source == source)
        if len(rows):
            measured = measure_languages(rows, benign=by_language, draws=draws, rng=rng)
            found[source] = {"languages": measured}
            if source == "translated":
                found[source] |= {"held_out": means(measured, HELD_OUT), "others": means(measured, _others(measured))}
    found["benign"] = {
        "languages": {code: metrics.rate(each.flagged) for code, each in by_language.items()},
        "mean": float(np.mean([each.flagged.mean() for each in by_language.values()])),
    }
    found["language_identification"] = language_id.summary(language_id.accuracy(benign, benign.found.tolist()))
    return found


def evaluate_bench(
    sets: Mapping[str, Scored], benign: Scored, *, draws: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Measure public benchmarks, per language, beside benign running text of the same languages.

    Args:
        sets: Scored rows of each set.
        benign: Benign running text.
        draws: Bootstrap draws.
        rng: Source of randomness.
    """
    by_language = _by_language(benign)
    found = {}
    for name, rows in sets.items():
        for source in sorted(set(rows.source.tolist())):
            part = rows.where(rows.source == source)
            unit = source.rpartition("/")[2]
            measured = measure_languages(part, benign=by_language, draws=draws, rng=rng)
            found[f"{name}/{unit}" if len(set(rows.source.tolist())) > 1 else name] = {
                "unit": unit,
                "unsafe": int(part.unsafe.sum()),
                "safe": int((~part.unsafe).sum()),
                "mean": means(measured),
                "languages": measured,
            }
    return found


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write results as JSON, each estimate on a line of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, ensure_ascii=False)
    path.write_text(
        re.sub(r"[{\[][^{}\[\]]*[}\]]", lambda match: " ".join(match[0].split()), text) + "\n", encoding="utf-8"
    )


def _score_benches(scorer: Scorer, data_dir: Path, *, limit: int) -> dict[str, Scored]:
    paths = sorted((data_dir / "safety/bench").glob("*.jsonl.xz"))
    if not paths:
        raise InputError(f"{data_dir} has no safety/bench/*.jsonl.xz; is --data-dir right?")
    names = [path.name.removesuffix(".jsonl.xz") for path in paths]
    return {
        name: scorer.score(f"bench-{name}", read_bench(path, limit=limit))
        for name, path in zip(names, paths, strict=True)
    }


def _by_language(rows: Scored) -> dict[str, Scored]:
    return {code: rows.where(rows.language == code) for code in rows.languages()}


def _others(measured: Mapping[str, Measures]) -> list[str]:
    return [code for code in measured if code not in HELD_OUT]


def _plain(value: Any) -> Any:
    """Turn estimates into dicts, and round single floats like them."""
    if isinstance(value, Estimate):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return round(value, 5) if isinstance(value, float) else value
