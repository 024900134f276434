"""Calibration of a bundle: the temperature, the thresholds, and what is said about both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crest import Guard, calibration
from crest.bundle import CALIBRATION, open_bundle
from crest.calibration import Calibration, LanguageThreshold
from crest.errors import InputError
from crest.eval.predictions import Scored
from crest.pipeline.calibrate import Aim, app, calibrate, fit, fit_temperature, log_loss, quantile, report
from judges import row, write

ABOVE_7 = 0.700001
TURKIC = ("tr", "az", "kk", "uz")


def scored(scores: Any, *, unsafe: Any = False, language: str = "en", found: str = "") -> Scored:
    n = len(scores)
    columns = {"key": np.arange(n), "language": np.full(n, language), "source": np.full(n, "x")}
    labels = np.broadcast_to(np.asarray(unsafe, dtype=bool), n)
    score = np.asarray(scores, dtype=np.float64)
    return Scored(**columns, unsafe=labels, score=score, flagged=score >= 0.5, found=np.full(n, found or language))


def joined(*parts: Scored) -> Scored:
    names = ("key", "language", "source", "unsafe", "score", "flagged", "found")
    return Scored(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def dev(high: float = 0.9, *, n: int = 10) -> Scored:
    """As many rows of each label; one in ten on the wrong side, so that .9 and .1 are calibrated."""
    scores = [high] * (n - n // 10) + [1 - high] * (n // 10)
    return joined(scored(scores, unsafe=True), scored([1 - each for each in scores]))


def test_calibrated_logits_keep_the_temperature_1() -> None:
    rows = dev(n=100)
    assert fit_temperature(np.log(rows.score / (1 - rows.score)), rows.unsafe) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("factor", [0.25, 3.0])
def test_the_temperature_undoes_what_logits_were_multiplied_by(factor: float) -> None:
    rows = dev(n=100)
    logits = factor * np.log(rows.score / (1 - rows.score))
    assert fit_temperature(logits, rows.unsafe) == pytest.approx(factor, rel=1e-4)


@given(st.lists(st.tuples(st.floats(-9, 9), st.booleans()), min_size=2, max_size=30))
def test_no_temperature_nearby_has_a_lower_log_loss(rows: list[tuple[float, bool]]) -> None:
    logits, unsafe = np.array([each[0] for each in rows]), np.array([each[1] for each in rows])
    best = fit_temperature(logits, unsafe)
    least = log_loss(logits / best, unsafe)
    for other in (best * 0.9, best * 1.1):
        if 1 / 20 <= other <= 20:
            assert least <= log_loss(logits / other, unsafe) + 1e-6


def test_a_threshold_flags_at_most_the_share_of_the_texts_it_was_chosen_on() -> None:
    scores = np.arange(1000) / 1000
    found = quantile(scores, fpr=0.01)
    assert found == pytest.approx(0.990001)  # (1000 + 1) * .99 = 990.99, so the 991st score, .99, passes
    assert found is not None and (scores >= found).sum() == 9


@given(st.one_of(st.floats(0, 1), st.integers(0, 1_000_000).map(lambda each: each / 1_000_000)))
def test_a_threshold_lies_above_the_score_that_it_must_not_flag(score: float) -> None:
    found = quantile(np.full(100, score), fpr=0.01)
    assert found is not None and (found > score or found == score == 1)
    assert found <= score + 2e-6


def test_texts_that_share_the_highest_score_are_not_flagged() -> None:
    assert quantile(np.array([0.1] * 50 + [0.7] * 50), fpr=0.01) == pytest.approx(0.700001)


def test_saturated_scores_give_the_highest_threshold() -> None:
    assert quantile(np.ones(200), fpr=0.01) == 1.0


def test_too_few_texts_say_nothing() -> None:
    assert quantile(np.zeros(98), fpr=0.01) is None
    assert quantile(np.zeros(99), fpr=0.01) is not None
    assert quantile(np.zeros(0), fpr=0.01) is None


def test_new_text_is_flagged_as_seldom_as_promised() -> None:
    generator = np.random.default_rng(3)
    rates = []
    for _ in range(300):
        threshold = quantile(generator.random(200), fpr=0.05)
        assert threshold is not None
        rates.append(1 - threshold)
    assert np.mean(rates) == pytest.approx(10 / 201, abs=0.003)


def test_each_language_gets_the_quantile_of_the_texts_it_was_found_in() -> None:
    benign = joined(
        scored(np.linspace(0, 0.8, 200), language="en"),
        scored(np.linspace(0, 0.7, 200), language="sw", found="sw"),
        scored([0.6] * 300, language="sw", found="en"),
    )
    found = fit(dev(), benign, codes=("en", "sw"), aim=Aim())
    assert found.temperature == pytest.approx(1, abs=1e-4)
    assert {code: each.n_benign for code, each in found.languages.items()} == {"en": 500, "sw": 200}
    assert found.threshold_for("sw") == pytest.approx(0.7 * 198 / 199, abs=1e-4)  # the 199th of 200
    assert found.threshold_for("en") == pytest.approx(0.8 * 195 / 199, abs=1e-4)  # the 496th of 500


def test_no_threshold_is_below_the_least() -> None:
    found = fit(dev(), scored([0.01] * 100), codes=("en",), aim=Aim(min_threshold=0.55))
    assert found.threshold_for("en") == 0.55


def test_no_threshold_makes_the_guard_blind() -> None:
    rows = joined(scored(np.linspace(0.6, 0.9, 100), unsafe=True), scored(np.linspace(0.1, 0.7, 100)))
    benign = joined(scored([0.99] * 100), scored([0.2] * 100, language="sw"))
    found = fit(rows, benign, codes=("en", "sw"), aim=Aim(least_recall=0.8))
    told = report(found, rows, benign, aim=Aim(least_recall=0.8))
    assert told["capped"] == ["en"]
    assert found.threshold_for("en") == told["highest_threshold"]
    assert told["languages"]["en"]["recall_dev"]["value"] == 0.8
    assert told["languages"]["en"]["fpr_benign"]["value"] == 1  # the price, said openly
    assert found.threshold_for("sw") == 0.5


def benign_of(thresholds: dict[str, float]) -> Scored:
    return joined(*(scored([value] * 100, language=code) for code, value in thresholds.items()))


def test_a_language_without_benign_text_borrows_from_its_family() -> None:
    benign = benign_of({"tr": 0.6, "az": 0.7, "kk": 0.8, "en": 0.55, "de": 0.55, "nl": 0.55, "fr": 0.55})
    found = fit(dev(), benign, codes=(*TURKIC, "en", "de", "nl", "fr"), aim=Aim())
    assert found.languages["uz"] == LanguageThreshold(ABOVE_7, 0, "median of Turkic")
    assert found.languages["tr"].basis == "own"


def test_a_romanised_language_borrows_from_romanised_ones() -> None:
    benign = benign_of({"hi-Latn": 0.6, "ta-Latn": 0.7, "ur-Latn": 0.8, "hi": 0.5, "ur": 0.5, "mr": 0.5, "pa": 0.5})
    found = fit(dev(), benign, codes=("hi-Latn", "ta-Latn", "ur-Latn", "bn-Latn", "hi"), aim=Aim())
    assert found.languages["bn-Latn"] == LanguageThreshold(ABOVE_7, 0, "median of romanised")


def test_a_language_without_kin_borrows_from_all() -> None:
    benign = benign_of({"tr": 0.6, "az": 0.7, "en": 0.8})
    found = fit(dev(), benign, codes=("tr", "az", "uz", "en"), aim=Aim())
    assert found.languages["uz"] == LanguageThreshold(ABOVE_7, 0, "median of all")
    assert found.threshold == pytest.approx(0.7, abs=1e-4)


def test_without_any_benign_text_the_least_threshold_holds() -> None:
    found = fit(dev(), scored([0.9] * 10), codes=("en",), aim=Aim(min_threshold=0.6))
    assert found.languages == {"en": LanguageThreshold(0.6, 0, "median of all")}


@pytest.mark.parametrize("label", [True, False])
def test_a_development_fold_of_one_label_is_refused(label: bool) -> None:
    with pytest.raises(InputError, match="safe and unsafe rows"):
        fit(scored([0.5] * 9, unsafe=label), scored([0.5]), codes=("en",), aim=Aim())


@pytest.fixture
def assembled(tmp_path: Path) -> Path:
    """In the tiny bundle's rule one bomb is sigmoid(4), two are sigmoid(12), none is sigmoid(-4)."""
    texts = [("bomb", "unsafe"), ("bomb bomb", "unsafe"), ("the", "unsafe")]
    texts += [("cake", "safe"), ("the cake", "safe"), ("cake bomb", "safe")]
    write(tmp_path / "dev.jsonl", [row(text, label, language="en") for text, label in texts])
    english = [row("the cake" if place else "bomb", language="en") for place in range(250)]
    swahili = [row("habari" if place > 4 else "habari bomb", language="sw") for place in range(250)]
    write(tmp_path / "benign-calibrate.jsonl", english + swahili)
    return tmp_path


def test_a_bundle_is_calibrated_and_opens_again(own_bundle: Path, assembled: Path) -> None:
    told = calibrate(own_bundle, assembled=assembled, threads=1)
    open_bundle(own_bundle)
    found = calibration.load(own_bundle / CALIBRATION)
    assert found.temperature == told["temperature"] > 1  # the fold contradicts the rule's sure scores twice in six
    assert told["log_loss"] < told["log_loss_before"]
    assert found.threshold_for("en") == 0.5
    one_bomb = 1 / (1 + np.exp(-4 / found.temperature))
    assert found.threshold_for("sw") == pytest.approx(one_bomb, abs=2e-6)
    assert told["capped"] == ["sw"]  # five bombs in 250 ask for more, but then only two bombs would be flagged
    guard = Guard.from_pretrained(own_bundle, threads=1)
    assert [each.flagged for each in guard.check(["bomb", "the cake", "habari"])] == [True, False, False]


def test_calibrating_again_asks_the_model_nothing_and_changes_nothing(own_bundle: Path, assembled: Path) -> None:
    first: list[str] = []
    calibrate(own_bundle, assembled=assembled, predictions=assembled / "p", threads=1, progress=first.append)
    before = (own_bundle / CALIBRATION).read_bytes()
    again: list[str] = []
    calibrate(own_bundle, assembled=assembled, predictions=assembled / "p", threads=1, progress=again.append)
    assert (len(first), again) == (2, [])
    assert (own_bundle / CALIBRATION).read_bytes() == before


def test_the_old_calibration_has_no_influence(own_bundle: Path, assembled: Path) -> None:
    once = calibrate(own_bundle, assembled=assembled, threads=1)
    assert calibrate(own_bundle, assembled=assembled, threads=1) == once


def test_the_command_prints_its_report(own_bundle: Path, assembled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(own_bundle), "--assembled", str(assembled), "--predictions", str(assembled / "p")]
    app([*arguments, "--benign-limit", "120", "--min-threshold", "0.3"], standalone_mode=False)
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert told["languages"]["en"]["n_benign"] == 120
    assert told["languages"]["sw"]["threshold"] >= 0.3
    assert "benign-calibrate: 240 of 240 texts" in printed.err


def test_a_basis_survives_the_file(tmp_path: Path) -> None:
    saved = Calibration(languages={"uz": LanguageThreshold(0.7, 0, "median of Turkic")})
    saved.save(tmp_path / "c.json")
    assert calibration.load(tmp_path / "c.json") == saved
