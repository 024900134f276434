"""Calibration: from logits to scores and thresholds, and its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crest import calibration
from crest.calibration import Calibration, LanguageThreshold
from crest.errors import BundleError


def test_the_temperature_divides_the_logits() -> None:
    assert Calibration(temperature=2.0).scores([2.0]) == pytest.approx([1 / (1 + np.exp(-1.0))])


def test_scores_lie_between_0_and_1_and_rise_with_the_logit() -> None:
    scores = Calibration().scores(np.array([-1e30, -800.0, -1.0, 0.0, 1.0, 800.0, 1e30]))
    assert scores[[0, 3, 6]].tolist() == [0.0, 0.5, 1.0]
    assert (np.diff(scores) >= 0).all()


def test_a_language_without_a_threshold_gets_the_general_one() -> None:
    found = Calibration(threshold=0.4, languages={"sw": LanguageThreshold(0.7, n_benign=9)})
    assert found.threshold_for("sw") == 0.7
    assert found.threshold_for("en") == 0.4


def test_a_softmax_sums_to_1_even_for_large_logits() -> None:
    assert calibration.softmax(np.array([[1000.0, 1000.0], [0.0, -1000.0]])).tolist() == [[0.5, 0.5], [1.0, 0.0]]


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    saved = Calibration(1.5, 0.6, 0.02, 0.3, {"sw": LanguageThreshold(0.61, n_benign=800)})
    saved.save(tmp_path / "c.json")
    assert calibration.load(tmp_path / "c.json") == saved


def fields(**changes: Any) -> dict[str, Any]:
    good = {"format": 1, "temperature": 1.0, "threshold": 0.5, "target_fpr": 0.01, "category_threshold": 0.5}
    return {**good, "languages": {}, **changes}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a calibration"),
        ("[]", "not a calibration"),
        ("{}", "not a calibration"),
        (json.dumps(fields(format=2)), "format 2, this crest reads 1"),
        (json.dumps(fields(temperature=0)), "above 0"),
        (json.dumps(fields(temperature=float("nan"))), "above 0"),
        (json.dumps(fields(threshold=1.5)), "between 0 and 1"),
        (json.dumps(fields(languages={"sw": {"threshold": -1, "n_benign": 1}})), "threshold of sw"),
        (json.dumps(fields(languages={"sw": 0.5})), "not a calibration"),
        (json.dumps(fields(languages=[])), "not a calibration"),
    ],
)
def test_a_bad_file_is_one_clear_error(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(content, encoding="utf-8")
    with pytest.raises(BundleError, match=message):
        calibration.load(tmp_path / "c.json")


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a calibration"):
        calibration.load(tmp_path / "none.json")
