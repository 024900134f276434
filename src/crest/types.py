"""The words that all modules share: `Verdict`, `Span` and `Example`, frozen and without behaviour of their own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypedDict

from crest.errors import InputError

Label: TypeAlias = Literal["safe", "unsafe"]
LABELS: tuple[Label, Label] = ("safe", "unsafe")
"""The two labels, in the order of the columns of `Guard.predict_proba`."""


class SpanDict(TypedDict):
    """A `Span` as JSON."""

    begin: int
    end: int
    score: float


class VerdictDict(TypedDict):
    """A `Verdict` as JSON, keys in the order of the attributes."""

    flagged: bool
    score: float
    threshold: float
    categories: list[str]
    category_scores: dict[str, float]
    language: str
    language_score: float
    abstained: bool
    reason: str | None
    coverage: float
    spans: list[SpanDict]


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the original text with its own score.

    Attributes:
        begin: First character, counted in the text as the caller passed it.
        end: The character after the last one.
        score: 0-1, higher is riskier.
    """

    begin: int
    end: int
    score: float

    def to_dict(self) -> SpanDict:
        """Return the span as a dict that `json.dumps` takes."""
        return {"begin": self.begin, "end": self.end, "score": float(self.score)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the guard says about one text.

    Attributes:
        flagged: True if the score reaches the threshold.
        score: Calibrated probability that the text is unsafe, 0-1, higher is riskier.
        threshold: The threshold that was applied; it depends on the language.
        categories: Categories at or over the category threshold, riskiest first; empty unless flagged.
        category_scores: Score of every category, 0-1, each on its own (they do not sum to 1).
        language: The most likely language, as a BCP-47 code.
        language_score: Probability of that language, 0-1.
        abstained: True if the guard says that it cannot judge this text well.
        reason: Why, in one word of the documented list, such as `too_short`; None if there is nothing to say.
        coverage: Share of the text that was scored, 0-1.
        spans: The scored stretches of the original text, in order.
    """

    flagged: bool
    score: float
    threshold: float
    categories: tuple[str, ...]
    category_scores: Mapping[str, float]
    language: str
    language_score: float
    abstained: bool = False
    reason: str | None = None
    coverage: float = 1.0
    spans: tuple[Span, ...] = ()

    def to_dict(self) -> VerdictDict:
        """Return the verdict as a dict that `json.dumps` takes, with plain floats, bools and lists."""
        return {
            "flagged": bool(self.flagged),
            "score": float(self.score),
            "threshold": float(self.threshold),
            "categories": list(self.categories),
            "category_scores": {name: float(score) for name, score in self.category_scores.items()},
            "language": self.language,
            "language_score": float(self.language_score),
            "abstained": bool(self.abstained),
            "reason": self.reason,
            "coverage": float(self.coverage),
            "spans": [span.to_dict() for span in self.spans],
        }


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled text of a data set or benchmark.

    Attributes:
        id: Identifier within its source; examples that share an id (or a pair id) stay on one side of a split.
        text: The text to judge.
        label: `safe` or `unsafe`.
        language: BCP-47 code.
        category: One of `taxonomy.CATEGORIES`, or None if it has none or it is unknown.
        context: The prompt, if the text is a reply to one.
        source: Name of the data set that it comes from.

    Raises:
        InputError: If the label is neither `safe` nor `unsafe`.
    """

    id: str
    text: str
    label: Label
    language: str
    category: str | None
    context: str | None = None
    source: str = ""

    def __post_init__(self) -> None:
        """Refuse a label that would later be counted as the wrong class."""
        if self.label not in LABELS:
            raise InputError(f"label of example {self.id!r} is {self.label!r}; use 'safe' or 'unsafe'")
