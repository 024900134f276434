"""The measures of every table: recall never without a false-positive rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crest.eval import metrics
from crest.eval.metrics import Estimate
from crest.eval.predictions import Scored

Measures: TypeAlias = dict[str, Estimate]

MEASURES = ("auc", "recall", "fpr_safe", "fpr_benign", "recall_at_fpr1", "recall_at_fpr5")
"""In order: AUC; recall and false-positive rate on the set's own safe rows, at the model's thresholds; false-positive
rate on benign running text of the same language; recall at the thresholds that flag at most 1 % and 5 % of it."""


def measure(rows: Scored, *, weights: NDArray[np.float32], benign: Scored | None, rng: np.random.Generator) -> Measures:
    """Measure what the rows allow: no AUC without safe ones, nothing about benign text where there is none.

    Args:
        rows: Labelled rows of one language.
        weights: Their bootstrap weights, see `metrics.resample`.
        benign: Benign running text of the same language.
        rng: Draws the benign text.
    """
    unsafe = rows.unsafe
    found: Measures = {}
    if unsafe.any() and not unsafe.all():
        found["auc"] = metrics.auc(rows.score, unsafe, weights=weights)
    if unsafe.any():
        found["recall"] = metrics.rate(rows.flagged[unsafe], weights=weights[:, unsafe])
    if not unsafe.all():
        found["fpr_safe"] = metrics.rate(rows.flagged[~unsafe], weights=weights[:, ~unsafe])
    if benign is None:
        return found
    benign_weights = metrics.resample(benign.key, draws=len(weights) - 1, rng=rng)
    found["fpr_benign"] = metrics.rate(benign.flagged, weights=benign_weights)
    if unsafe.any():
        for percent in (1, 5):
            found[f"recall_at_fpr{percent}"] = metrics.recall_at_fpr(
                rows.score[unsafe],
                benign.score,
                fpr=percent / 100,
                unsafe_weights=weights[:, unsafe],
                benign_weights=benign_weights,
            )
    return found


def measure_languages(
    rows: Scored, *, benign: Mapping[str, Scored], draws: int, rng: np.random.Generator
) -> dict[str, Measures]:
    """Measure each language of a set; the clusters of all languages are drawn together."""
    weights = metrics.resample(rows.key, draws=draws, rng=rng)
    found = {}
    for language in rows.languages():
        mask = rows.language == language
        found[language] = measure(rows.where(mask), weights=weights[:, mask], benign=benign.get(language), rng=rng)
    return found


def means(languages: Mapping[str, Measures], wanted: Iterable[str] | None = None) -> dict[str, Any]:
    """Average over languages, each measure over those that have it; an empty dict if none of them was measured."""
    chosen = [code for code in languages if wanted is None or code in set(wanted)]
    if not chosen:
        return {}
    found: dict[str, Any] = {"languages": sorted(chosen)}
    for name in MEASURES:
        estimates = [languages[code][name] for code in chosen if name in languages[code]]
        if estimates:
            found[name] = metrics.mean(estimates)
    return found
