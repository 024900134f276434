"""Measure how often the language of a sentence is found, beside the library lingua on the languages that it knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from crest.errors import InputError, MissingExtraError
from crest.eval import metrics
from crest.eval.metrics import Estimate
from crest.eval.predictions import Scored
from crest.languages import canonical


def accuracy(rows: Scored, found: Sequence[str]) -> dict[str, Estimate]:
    """Return the share of sentences of each language whose language was found."""
    right = rows.language == np.asarray(found)
    return {code: metrics.rate(right[rows.language == code]) for code in rows.languages()}


def summary(accuracies: dict[str, Estimate]) -> dict[str, Any]:
    """Return the accuracy of each language, and their mean."""
    return {"mean": float(np.mean([each.value for each in accuracies.values()])), "languages": accuracies}


def compare_with_lingua(rows: Scored, texts: Sequence[str]) -> dict[str, Any]:
    """Measure both on the sentences of the languages that both know; each chooses among all the languages it knows.

    Args:
        rows: The sentences with the language that the model found.
        texts: Their texts.

    Raises:
        MissingExtraError: If lingua is not installed.
    """
    try:
        from lingua import Language, LanguageDetectorBuilder  # noqa: PLC0415  # optional
    except ImportError as error:
        raise MissingExtraError("bench", "the comparison with lingua") from error
    detector = LanguageDetectorBuilder.from_all_languages().build()
    all_languages = Language.all()
    known = {name for each in all_languages if (name := _code(each))}
    mask = np.isin(rows.language, sorted(known))
    both = rows.where(mask)
    asked = [text for text, wanted in zip(texts, mask, strict=True) if wanted]
    answers = [_code(each) for each in detector.detect_languages_in_parallel_of(asked)]
    return {
        "lingua_languages": len(all_languages),
        "crest": summary(accuracy(both, both.found.tolist())),
        "lingua": summary(accuracy(both, answers)),
    }


def _code(language: Any) -> str:
    """Return our code for a language of lingua's; empty if it found none, or one that is not in our table."""
    if language is None:
        return ""
    try:
        return canonical(language.iso_code_639_1.name)
    except InputError:
        return ""
