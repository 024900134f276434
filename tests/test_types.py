"""The shared words are frozen, and a verdict becomes JSON without loss."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from crest.errors import InputError
from crest.types import LABELS, Example, Span, Verdict


def _verdict(**changes: Any) -> Verdict:
    values: dict[str, Any] = {
        "flagged": True,
        "score": 0.9,
        "threshold": 0.5,
        "categories": ("weapons", "violence"),
        "category_scores": {"violence": 0.6, "weapons": 0.8},
        "language": "sw",
        "language_score": 0.97,
    }
    return Verdict(**(values | changes))


def test_safe_is_the_first_column_and_unsafe_the_second() -> None:
    assert LABELS == ("safe", "unsafe")


@pytest.mark.parametrize("value", [_verdict(), Span(0, 1, 0.5), Example("1", "hello", "safe", "en", None)])
def test_a_value_cannot_be_changed(value: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, 1)


def test_a_plain_verdict_covers_the_whole_text_without_a_reason() -> None:
    verdict = _verdict()
    assert (verdict.abstained, verdict.reason, verdict.coverage, verdict.spans) == (False, None, 1.0, ())


def test_the_dict_has_every_attribute_in_order() -> None:
    assert list(_verdict().to_dict()) == [field.name for field in dataclasses.fields(Verdict)]


def test_a_verdict_survives_json() -> None:
    verdict = _verdict(spans=(Span(0, 5, 0.25),), reason="too_short")
    assert json.loads(json.dumps(verdict.to_dict())) == verdict.to_dict()
    assert verdict.to_dict()["spans"] == [{"begin": 0, "end": 5, "score": 0.25}]


def test_numpy_scalars_become_plain_numbers() -> None:
    verdict = _verdict(
        flagged=np.bool_(True),
        score=np.float32(0.5),
        category_scores={"drugs": np.float32(0.25)},
        spans=(Span(0, 1, np.float32(0.5)),),  # type: ignore[arg-type]
    )
    assert json.loads(json.dumps(verdict.to_dict()))["category_scores"] == {"drugs": 0.25}


def test_categories_keep_their_order_in_the_dict() -> None:
    assert _verdict().to_dict()["categories"] == ["weapons", "violence"]


@pytest.mark.parametrize("label", ["Unsafe", "", "toxic", 1])
def test_an_unknown_label_is_refused(label: Any) -> None:
    with pytest.raises(InputError, match="use 'safe' or 'unsafe'"):
        Example("7", "hello", label, "en", None)
