"""Turn raw logits into calibrated scores, with a threshold for each language."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crest.errors import BundleError

FORMAT = 1


@dataclass(frozen=True, slots=True)
class LanguageThreshold:
    """The threshold of one language.

    Attributes:
        threshold: A text of this language is flagged from this score on.
        n_benign: How many benign texts it was measured on.
        basis: `own` if they were of this language; else what it was borrowed from, such as `median of Turkic`.
    """

    threshold: float
    n_benign: int
    basis: str = "own"


@dataclass(frozen=True, slots=True)
class Calibration:
    """What turns the logits of one model into scores and flags.

    Attributes:
        temperature: Divides every unsafe logit before the sigmoid.
        threshold: Where a text is flagged in a language that has no threshold of its own.
        target_fpr: Share of benign texts that the thresholds were chosen to flag.
        category_threshold: From which score on a category is named.
        languages: The thresholds of single languages.
    """

    temperature: float = 1.0
    threshold: float = 0.5
    target_fpr: float = 0.01
    category_threshold: float = 0.5
    languages: Mapping[str, LanguageThreshold] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be meant.

        Raises:
            BundleError: If one is out of its range.
        """
        if not (np.isfinite(self.temperature) and self.temperature > 0):
            raise BundleError(f"temperature is {self.temperature}; it must be above 0")
        shares = {"threshold": self.threshold, "target_fpr": self.target_fpr}
        shares |= {"category_threshold": self.category_threshold}
        shares |= {f"threshold of {language}": each.threshold for language, each in self.languages.items()}
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise BundleError(f"{name} is {value}; it must lie between 0 and 1")

    def scores(self, logits: ArrayLike) -> NDArray[np.float64]:
        """Return the calibrated probability of "unsafe" for unsafe logits of any shape."""
        return sigmoid(np.asarray(logits, dtype=np.float64) / self.temperature)

    def threshold_for(self, language: str) -> float:
        """Return the threshold of a language, or the general one if it has none."""
        own = self.languages.get(language)
        return self.threshold if own is None else own.threshold

    def save(self, path: Path) -> None:
        """Write the calibration as JSON."""
        languages = {code: asdict(each) for code, each in self.languages.items()}
        fields = {
            "format": FORMAT,
            "temperature": self.temperature,
            "threshold": self.threshold,
            "target_fpr": self.target_fpr,
            "category_threshold": self.category_threshold,
            "languages": languages,
        }
        path.write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> Calibration:
    """Read a calibration that `Calibration.save` wrote.

    Raises:
        BundleError: If the file is missing, malformed or of an unknown format version.
    """
    try:
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = fields["format"]
        if version != FORMAT:
            raise BundleError(f"{path} has format {version!r}, this crest reads {FORMAT}; upgrade crest-guard")
        return Calibration(
            temperature=float(fields["temperature"]),
            threshold=float(fields["threshold"]),
            target_fpr=float(fields["target_fpr"]),
            category_threshold=float(fields["category_threshold"]),
            languages={
                code: LanguageThreshold(
                    threshold=float(each["threshold"]),
                    n_benign=int(each["n_benign"]),
                    basis=str(each.get("basis", "own")),
                )
                for code, each in fields["languages"].items()
            },
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise BundleError(f"{path} is not a calibration ({error!r}); install the model again") from error


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(-x)) without overflow."""
    small = np.exp(-np.abs(logits))
    result: NDArray[np.float64] = np.where(logits >= 0, 1.0, small) / (1.0 + small)
    return result


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the softmax over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return result
