"""Calibrate a bundle: fit the temperature on the development fold, and choose each language's threshold on benign text.

The guard applies the threshold of the language that it finds in a text, so thresholds are measured on the benign texts
in which it finds that language, whatever their true one. A language found in too few of them borrows the median
threshold of its family, or, if it is romanised, of the romanised varieties; where fewer than three of those have one,
of all languages.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from crest import bundle as bundles
from crest import languages
from crest.backend import OnnxBackend
from crest.bundle import Bundle, open_bundle, write_manifest
from crest.calibration import Calibration, LanguageThreshold
from crest.encode import Tokenizer
from crest.errors import InputError
from crest.eval import metrics
from crest.eval.predictions import Scored, Scorer, read_assembled
from crest.guard import Guard

DEV, BENIGN = "dev.jsonl", "benign-calibrate.jsonl"
MIN_KIN = 3
STEP = 1e-6  # thresholds are rounded to it

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What the thresholds are chosen for.

    Attributes:
        target_fpr: Share of benign texts of a language to flag at most.
        min_threshold: No threshold is lower.
        least_recall: No threshold is so high that less than this share of all unsafe rows of the development fold is
            flagged: rather more false alarms than a guard that is blind in a language.
        category_threshold: From which score on a category is named.
    """

    target_fpr: float = 0.01
    min_threshold: float = 0.5
    least_recall: float = 0.5
    category_threshold: float = 0.5


def calibrate(
    folder: Path,
    *,
    assembled: Path,
    aim: Aim | None = None,
    predictions: Path | None = None,
    benign_limit: int = 0,
    threads: int | None = None,
    progress: Callable[[str], object] = lambda _message: None,
) -> dict[str, Any]:
    """Write a bundle's `calibration.json`, and its manifest again.

    Args:
        folder: The bundle; what its `calibration.json` said before has no influence.
        assembled: The folder that `assemble` wrote.
        aim: What the thresholds are chosen for.
        predictions: Keeps the scores, so that other aims need no second scoring.
        benign_limit: Most benign sentences of a language; 0 for all.
        threads: CPU threads; None for all.
        progress: Is told how far it is.

    Returns:
        What was chosen and what it does on the same texts, ready for JSON.

    Raises:
        InputError: If a fold cannot be read or lacks a label.
        BundleError: If the folder is no bundle.
    """
    aim = aim or Aim()
    bundle = open_bundle(folder)
    guard = Guard(
        _uncalibrated(bundle),
        tokenizer=Tokenizer(folder / bundles.TOKENIZER),
        backend=OnnxBackend(folder / bundles.MODEL, threads=threads),
        calibration=Calibration(),
    )
    scorer = Scorer(guard, folder=predictions, progress=progress)
    dev = scorer.score("dev", read_assembled(assembled / DEV))
    benign = scorer.score("benign-calibrate", read_assembled(assembled / BENIGN, limit=benign_limit))
    calibration = fit(dev, benign, codes=guard.languages, aim=aim)
    calibration.save(folder / bundles.CALIBRATION)
    write_manifest(folder, bundle.manifest)
    return report(calibration, dev, benign, aim=aim)


def fit(dev: Scored, benign: Scored, *, codes: tuple[str, ...], aim: Aim) -> Calibration:
    """Choose temperature and thresholds.

    Args:
        dev: Labelled rows, scored at temperature 1.
        benign: Benign running text, scored at temperature 1.
        codes: The languages that the model tells apart.
        aim: What the thresholds are chosen for.

    Raises:
        InputError: If the rows lack a label.
    """
    if dev.unsafe.all() or not dev.unsafe.any():
        raise InputError(f"{DEV} needs safe and unsafe rows; give the development fold a larger share")
    logits = _logits(dev)
    temperature = fit_temperature(logits, dev.unsafe)
    plain = Calibration(temperature=temperature)
    cap = _cap(plain.scores(logits[dev.unsafe]), least_recall=aim.least_recall)
    scores = plain.scores(_logits(benign))
    own = {
        code: LanguageThreshold(max(aim.min_threshold, min(cap, wanted)), int((benign.found == code).sum()))
        for code in codes
        if (wanted := quantile(scores[benign.found == code], fpr=aim.target_fpr)) is not None
    }
    general = median([each.threshold for each in own.values()] or [max(aim.min_threshold, min(cap, 0.5))])
    borrowed = {code: _borrow(code, own, general=general) for code in codes if code not in own}
    return Calibration(
        temperature=temperature,
        threshold=general,
        target_fpr=aim.target_fpr,
        category_threshold=aim.category_threshold,
        languages=dict(sorted((own | borrowed).items())),
    )


def fit_temperature(logits: NDArray[np.float64], unsafe: NDArray[np.bool_]) -> float:
    """Return the temperature between 1/20 and 20 that minimises the log loss, by golden section."""
    ratio = (math.sqrt(5) - 1) / 2
    low, high = -math.log(20), math.log(20)
    for _ in range(60):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if log_loss(logits / math.exp(left), unsafe) <= log_loss(logits / math.exp(right), unsafe):
            high = right
        else:
            low = left
    return round(math.exp((low + high) / 2), 6)


def log_loss(logits: NDArray[np.float64], unsafe: NDArray[np.bool_]) -> float:
    """Return the mean log loss of logits."""
    return float(np.logaddexp(0, np.where(unsafe, -logits, logits)).mean())


def quantile(benign_scores: NDArray[np.float64], *, fpr: float) -> float | None:
    """Return the threshold that flags one more text like these with a probability of at most `fpr`.

    It lies just above the k-th of n scores, k = ceil((n + 1)(1 - fpr)), so texts of that very score are not flagged.

    Returns:
        The threshold, or None if there are too few texts to say: fewer than 1 / fpr - 1.
    """
    n = len(benign_scores)
    place = math.ceil((n + 1) * (1 - fpr) - 1e-9)
    if n == 0 or place > n:
        return None
    return min(1.0, _above(float(np.sort(benign_scores)[place - 1])))


def report(calibration: Calibration, dev: Scored, benign: Scored, *, aim: Aim) -> dict[str, Any]:
    """Return what a calibration does on the rows that it was chosen on, by their true language.

    Args:
        calibration: What was chosen.
        dev: Labelled rows, scored at temperature 1.
        benign: Benign running text, scored at temperature 1.
        aim: What it was chosen for.
    """
    logits = _logits(dev)
    cap = _cap(calibration.scores(logits[dev.unsafe]), least_recall=aim.least_recall)
    dev_hits, benign_hits = _flags(calibration, dev), _flags(calibration, benign)
    found: dict[str, Any] = {}
    for code, chosen in calibration.languages.items():
        found[code] = {"threshold": chosen.threshold, "n_benign": chosen.n_benign, "basis": chosen.basis}
        for name, hits, mask in (
            ("fpr_benign", benign_hits, benign.language == code),
            ("recall_dev", dev_hits, (dev.language == code) & dev.unsafe),
        ):
            if mask.any():
                found[code][name] = metrics.rate(hits[mask]).to_dict()
    return {
        "temperature": calibration.temperature,
        "log_loss_before": log_loss(logits, dev.unsafe),
        "log_loss": log_loss(logits / calibration.temperature, dev.unsafe),
        "threshold": calibration.threshold,
        "highest_threshold": max(cap, aim.min_threshold),
        "capped": sorted(code for code, each in calibration.languages.items() if each.threshold == cap),
        "fpr_benign": metrics.rate(benign_hits).to_dict(),
        "recall_dev": metrics.rate(dev_hits[dev.unsafe]).to_dict(),
        "languages": found,
    }


def _uncalibrated(bundle: Bundle) -> Bundle:
    """Leave the calibration out of a bundle's files: scores at temperature 1 do not depend on it."""
    files = {name: record for name, record in bundle.manifest.files.items() if name != bundles.CALIBRATION}
    return replace(bundle, manifest=replace(bundle.manifest, files=files))


def _borrow(code: str, own: Mapping[str, LanguageThreshold], *, general: float) -> LanguageThreshold:
    kin = _kin(code)
    near = [each.threshold for other, each in own.items() if _kin(other) == kin]
    if len(near) >= MIN_KIN:
        return LanguageThreshold(median(near), 0, f"median of {kin}")
    return LanguageThreshold(general, 0, "median of all")


def _kin(code: str) -> str:
    """Name the group that a language may borrow from."""
    language = languages.get(code)
    return "romanised" if language.romanised else language.family


def _cap(unsafe_scores: NDArray[np.float64], *, least_recall: float) -> float:
    """Return the highest threshold that still flags a share of unsafe rows."""
    place = math.floor((1 - least_recall) * len(unsafe_scores) + 1e-9)
    score = float(np.sort(unsafe_scores)[min(place, len(unsafe_scores) - 1)])
    return round(_above(score) - STEP, 6)


def _flags(calibration: Calibration, rows: Scored) -> NDArray[np.bool_]:
    thresholds = np.array([calibration.threshold_for(code) for code in rows.found.tolist()])
    flags: NDArray[np.bool_] = calibration.scores(_logits(rows)) >= thresholds
    return flags


def _logits(rows: Scored) -> NDArray[np.float64]:
    """Return the logits behind scores at temperature 1; a text without a token has the score 0 and a finite logit."""
    score = np.clip(rows.score, 1e-15, 1 - 1e-15)
    logits: NDArray[np.float64] = np.log(score) - np.log1p(-score)
    return logits


def _above(score: float) -> float:
    """Return the lowest multiple of `STEP` above a score."""
    steps = math.floor(score / STEP)
    return next(value for more in (0, 1, 2) if (value := round((steps + more) * STEP, 6)) > score)


@app.command()
def run(
    folder: Annotated[Path, typer.Argument(help="The bundle.")],
    assembled: Annotated[Path, typer.Option(help="The folder that `assemble` wrote.")],
    target_fpr: Annotated[float, typer.Option(help="Share of benign texts to flag at most.")] = 0.01,
    min_threshold: Annotated[float, typer.Option(help="No threshold is lower.")] = 0.5,
    least_recall: Annotated[float, typer.Option(help="No threshold misses more of the dev fold.")] = 0.5,
    predictions: Annotated[Path, typer.Option(help="Keeps the scores.")] = Path("runs/calibrate"),
    benign_limit: Annotated[int, typer.Option(help="Most benign sentences of a language; 0 for all.")] = 0,
    threads: Annotated[int | None, typer.Option(help="CPU threads; all if left out.")] = None,
) -> None:
    """Calibrate a bundle and print the report."""
    found = calibrate(
        folder,
        assembled=assembled,
        aim=Aim(target_fpr=target_fpr, min_threshold=min_threshold, least_recall=least_recall),
        predictions=predictions,
        benign_limit=benign_limit,
        threads=threads,
        progress=lambda message: sys.stderr.write(f"{message}\n"),
    )
    sys.stdout.write(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    app()
