"""Turn scores and labels into numbers, each with a 95 % interval.

Intervals come from a bootstrap over clusters: rows that share a key (translations of one line, twins) are drawn
together, because they are right or wrong together. A draw is a row of weights: how often each row of the sample
occurs in it. The first row of every weight matrix is all ones: the sample itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crest.errors import InputError

Floats: TypeAlias = NDArray[np.floating[Any]]

_Z = 1.959964  # 95 %


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval.

    Attributes:
        value: The number, measured on the sample.
        low: Lower end of the interval.
        high: Upper end.
        n: How many rows it was measured on; of a mean, how many numbers.
        draws: Its value in each bootstrap draw; empty if there were none.
    """

    value: float
    low: float
    high: float
    n: int
    draws: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), repr=False, compare=False)

    def to_dict(self) -> dict[str, float | int]:
        """Return value, interval and n, rounded to five digits."""
        return {
            "value": round(self.value, 5),
            "low": round(self.low, 5),
            "high": round(self.high, 5),
            "n": self.n,
        }


def resample(keys: Sequence[str] | NDArray[Any], *, draws: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw the clusters of a sample with replacement.

    Args:
        keys: Key of each row; rows with the same key are drawn together.
        draws: How often to draw.
        rng: Source of randomness.

    Returns:
        Weights, shape (1 + draws, rows); the first row is all ones.
    """
    names, places = np.unique(np.asarray(keys), return_inverse=True)
    weights = np.ones((1 + draws, len(places)), dtype=np.float32)
    for row in weights[1:]:
        row[:] = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))[places]
    return weights


def auc(scores: ArrayLike, unsafe: ArrayLike, *, weights: Floats) -> Estimate:
    """Estimate the share of (unsafe, safe) pairs in which the unsafe row has the higher score; a tie counts half.

    Raises:
        InputError: If one of the two labels does not occur.
    """
    score, is_unsafe = np.asarray(scores, dtype=np.float64), np.asarray(unsafe, dtype=bool)
    _need(is_unsafe, "unsafe rows")
    _need(~is_unsafe, "safe rows")
    order = np.argsort(score, kind="stable")
    starts = _starts(score[order])
    bad = np.add.reduceat(weights[:, order] * is_unsafe[order], starts, axis=1, dtype=np.float64)
    good = np.add.reduceat(weights[:, order] * ~is_unsafe[order], starts, axis=1, dtype=np.float64)
    below = np.cumsum(good, axis=1) - good
    pairs = bad.sum(axis=1) * good.sum(axis=1)
    values = _divide(((below + good / 2) * bad).sum(axis=1), pairs)
    # The variance of an AUC is at most that of a rate among the rows of the rarer label.
    return _estimate(values, n=len(score), rows=int(min(is_unsafe.sum(), (~is_unsafe).sum())))


def rate(hits: ArrayLike, *, weights: Floats | None = None) -> Estimate:
    """Estimate the share of rows that are hits, with Wilson's interval.

    Args:
        hits: True for a hit; at least one row.
        weights: Gives the draws that `mean` needs; the interval does not depend on them.

    Raises:
        InputError: If there are no rows.
    """
    hit = np.asarray(hits, dtype=bool)
    _need(np.ones(len(hit), dtype=bool), "rows")
    low, high = wilson(float(hit.mean()), len(hit))
    draws = np.empty(0) if weights is None else _divide(weights[1:] @ hit, weights[1:].sum(axis=1))
    return Estimate(float(hit.mean()), low, high, len(hit), draws)


def recall_at_fpr(
    unsafe_scores: ArrayLike,
    benign_scores: ArrayLike,
    *,
    fpr: float,
    unsafe_weights: Floats,
    benign_weights: Floats,
) -> Estimate:
    """Estimate the recall at the lowest threshold that flags at most a share `fpr` of benign text.

    Benign rows of equal score are flagged all or none, so ties never exceed the share.

    Raises:
        InputError: If there is no unsafe or no benign row.
    """
    unsafe, benign = np.sort(np.asarray(unsafe_scores, dtype=np.float64)), np.asarray(benign_scores, dtype=np.float64)
    _need(np.ones(len(unsafe), dtype=bool), "unsafe rows")
    highest_unflagged = cut_at_fpr(benign, fpr=fpr, weights=benign_weights)
    order = np.argsort(np.asarray(unsafe_scores, dtype=np.float64), kind="stable")
    cumulated = np.cumsum(unsafe_weights[:, order], axis=1, dtype=np.float64)
    missed = np.searchsorted(unsafe, highest_unflagged, side="right")
    padded = np.pad(cumulated, ((0, 0), (1, 0)))
    values = 1 - _divide(padded[np.arange(len(padded)), missed], padded[:, -1])
    return _estimate(values, n=len(unsafe), rows=len(unsafe))


def cut_at_fpr(benign_scores: ArrayLike, *, fpr: float, weights: Floats) -> NDArray[np.float64]:
    """Return for each draw the lowest score such that the rows above it are at most a share `fpr` of all.

    Raises:
        InputError: If there are no rows.
    """
    score = np.asarray(benign_scores, dtype=np.float64)
    _need(np.ones(len(score), dtype=bool), "benign rows")
    order = np.argsort(score, kind="stable")
    starts = _starts(score[order])
    groups = np.add.reduceat(weights[:, order], starts, axis=1, dtype=np.float64)
    totals = groups.sum(axis=1, keepdims=True)
    above = totals - np.cumsum(groups, axis=1)
    first = (above <= fpr * totals + 1e-9).argmax(axis=1)
    cuts: NDArray[np.float64] = score[order][starts][first]
    return cuts


def f1(flagged: ArrayLike, unsafe: ArrayLike, *, weights: Floats) -> Estimate:
    """Estimate the F1 of the unsafe label: 2 hits / (2 hits + misses + false alarms).

    Raises:
        InputError: If there is no unsafe row.
    """
    flags, is_unsafe = np.asarray(flagged, dtype=bool), np.asarray(unsafe, dtype=bool)
    _need(is_unsafe, "unsafe rows")
    hits, wrong = weights @ (flags & is_unsafe), weights @ (flags != is_unsafe)
    return _estimate(_divide(2 * hits, 2 * hits + wrong), n=len(flags), rows=int(is_unsafe.sum()))


def ece(scores: ArrayLike, unsafe: ArrayLike, *, weights: Floats, bins: int = 15) -> Estimate:
    """Estimate the expected calibration error: how far scores are from the share of unsafe rows, in equal bins.

    Raises:
        InputError: If there are no rows.
    """
    score, is_unsafe = np.asarray(scores, dtype=np.float64), np.asarray(unsafe, dtype=np.float64)
    _need(np.ones(len(score), dtype=bool), "rows")
    member = np.minimum((score * bins).astype(int), bins - 1)
    gaps = [np.abs(weights[:, member == each] @ (score - is_unsafe)[member == each]) for each in range(bins)]
    return _estimate(_divide(np.sum(gaps, axis=0), weights.sum(axis=1)), n=len(score), rows=len(score))


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """Estimate the mean of numbers that were measured on the same draws.

    Raises:
        InputError: If there are none, or the numbers of draws differ.
    """
    if len({len(each.draws) for each in estimates}) != 1:
        raise InputError("mean() takes one or more estimates with the same number of draws")
    draws = np.array([each.draws for each in estimates])
    known = np.isfinite(draws)
    means = _divide(np.where(known, draws, 0).sum(axis=0), known.sum(axis=0))
    values = np.concatenate([[np.mean([each.value for each in estimates])], means])
    return _estimate(values, n=len(estimates), rows=sum(each.n for each in estimates))


def wilson(share: float, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of n rows."""
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def _estimate(values: NDArray[np.float64], *, n: int, rows: int) -> Estimate:
    """Take the percentiles of the draws; where all draws agree, which a small sample may do, Wilson's interval."""
    value, draws = float(values[0]), values[1:]
    known = draws[np.isfinite(draws)]
    if len(known) == 0 or np.ptp(known) == 0:
        low, high = wilson(value, rows)
    else:
        low, high = (float(each) for each in np.quantile(known, [0.025, 0.975]))
    return Estimate(value, min(low, value), max(high, value), n, draws)


def _starts(ordered: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return where runs of equal values begin."""
    return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def _divide(numerators: Any, denominators: Any) -> NDArray[np.float64]:
    """Divide; a draw without any row that counts is NaN."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(numerators, dtype=np.float64) / np.asarray(denominators, dtype=np.float64)


def _need(mask: NDArray[np.bool_], what: str) -> None:
    if not mask.any():
        raise InputError(f"there are no {what}; nothing can be measured without them")
