"""Metrics: numbers that can be worked out by eye, and intervals that behave."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crest.errors import InputError
from crest.eval import metrics
from crest.eval.metrics import Estimate

ONE = np.ones((1, 4))
scores = st.lists(st.integers(0, 5).map(lambda each: each / 5), min_size=1, max_size=20)


def ones(n: int) -> np.ndarray:
    return np.ones((1, n))


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def recall(unsafe: list[float], benign: list[float], fpr: float) -> float:
    weights = {"unsafe_weights": ones(len(unsafe)), "benign_weights": ones(len(benign))}
    return metrics.recall_at_fpr(unsafe, benign, fpr=fpr, **weights).value


def test_the_auc_counts_the_pairs_in_the_right_order() -> None:
    assert metrics.auc([0.9, 0.3, 0.5, 0.1], [True, True, False, False], weights=ONE).value == 0.75


def test_a_tie_counts_half() -> None:
    assert metrics.auc([0.5, 0.5, 0.5, 0.1], [True, False, False, False], weights=ONE).value == pytest.approx(2 / 3)


@given(scores, scores)
def test_the_auc_is_that_of_all_pairs(unsafe: list[float], safe: list[float]) -> None:
    pairs = [(bad > good) + (bad == good) / 2 for bad in unsafe for good in safe]
    labels = [True] * len(unsafe) + [False] * len(safe)
    found = metrics.auc(unsafe + safe, labels, weights=ones(len(labels)))
    assert found.value == pytest.approx(np.mean(pairs))


def test_a_row_of_weight_two_counts_as_two_rows() -> None:
    weighted = metrics.auc([0.9, 0.3, 0.5], [True, True, False], weights=np.array([[2.0, 1, 1]]))
    assert weighted.value == metrics.auc([0.9, 0.9, 0.3, 0.5], [True, True, True, False], weights=ONE).value


@pytest.mark.parametrize("label", [True, False])
def test_one_label_alone_has_no_auc(label: bool) -> None:
    with pytest.raises(InputError, match="safe rows"):
        metrics.auc([0.1, 0.2], [label, label], weights=ones(2))


def test_the_share_of_hits_has_wilsons_interval() -> None:
    found = metrics.rate([True] * 8 + [False] * 2)
    assert (found.value, found.n) == (0.8, 10)
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_no_hit_in_ten_rows_does_not_mean_never() -> None:
    found = metrics.rate([False] * 10)
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(0.2775, abs=1e-4)


def test_no_rows_are_no_rate() -> None:
    with pytest.raises(InputError, match="no rows"):
        metrics.rate([])


def test_recall_is_read_at_the_lowest_threshold_that_keeps_the_rate() -> None:
    benign = [each / 100 for each in range(100)]  # 5 % of them are .95 or more
    assert recall([0.96, 0.945, 0.94, 0.5], benign, 0.05) == 0.5  # .945 lies above .94, the sixth from the top


def test_ties_never_exceed_the_rate() -> None:
    assert recall([0.9, 0.9, 1.0], [0.9] * 10 + [0.1] * 90, 0.05) == pytest.approx(1 / 3)
    assert recall([0.9, 0.9, 1.0], [0.9] * 5 + [0.1] * 95, 0.05) == 1


def test_few_benign_rows_may_not_be_flagged_at_all() -> None:
    assert recall([0.9, 0.4], [0.5, 0.1], 0.01) == 0.5


@given(scores, scores, st.sampled_from([0.0, 0.01, 0.05, 0.3, 1.0]))
def test_the_rate_is_kept_and_no_lower_threshold_keeps_it(unsafe: list[float], benign: list[float], fpr: float) -> None:
    cut = metrics.cut_at_fpr(benign, fpr=fpr, weights=ones(len(benign)))[0]
    above = [each for each in benign if each > cut]
    assert len(above) <= fpr * len(benign) + 1e-9
    if cut > min(benign):
        assert sum(each >= cut for each in benign) > fpr * len(benign)
    assert recall(unsafe, benign, fpr) == pytest.approx(np.mean([each > cut for each in unsafe]))


def test_the_benign_rows_are_drawn_too() -> None:
    benign = np.linspace(0, 1, 50)
    found = metrics.recall_at_fpr(
        [0.97],
        benign,
        fpr=0.05,
        unsafe_weights=np.ones((201, 1)),
        benign_weights=metrics.resample(np.arange(50), draws=200, rng=rng()),
    )
    assert set(found.draws.tolist()) == {0.0, 1.0}


def test_f1_joins_misses_and_false_alarms() -> None:
    found = metrics.f1([True, True, False, True], [True, True, True, False], weights=ONE)
    assert found.value == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))


def test_calibrated_scores_have_no_calibration_error() -> None:
    assert metrics.ece([0.75] * 4, [True, True, True, False], weights=ONE).value == 0


def test_the_calibration_error_is_how_far_scores_are_off() -> None:
    assert metrics.ece([1.0] * 4, [True, True, True, False], weights=ONE).value == 0.25
    assert metrics.ece([0.9, 0.9, 0.1, 0.1], [True, True, False, False], weights=ONE).value == pytest.approx(0.1)


def test_rows_of_a_cluster_are_drawn_together() -> None:
    weights = metrics.resample(["a", "b", "a", "c"], draws=50, rng=rng())
    assert weights.shape == (51, 4)
    assert (weights[0] == 1).all()
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[1:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_clusters_widen_the_interval() -> None:
    hits = np.repeat([True, False] * 10, 20)
    apart = metrics.f1(hits, np.ones(400), weights=metrics.resample(np.arange(400), draws=300, rng=rng()))
    together = metrics.f1(hits, np.ones(400), weights=metrics.resample(np.arange(400) // 20, draws=300, rng=rng()))
    assert apart.value == together.value
    assert together.high - together.low > 3 * (apart.high - apart.low)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator, covered = rng(), 0
    for _ in range(100):
        score = np.concatenate([generator.normal(1, 1, 40), generator.normal(0, 1, 40)])
        weights = metrics.resample(np.arange(80), draws=200, rng=generator)
        found = metrics.auc(score, np.arange(80) < 40, weights=weights)
        covered += found.low <= 0.7602 <= found.high  # the normal distribution at 1 / sqrt(2)
    assert 87 <= covered <= 100


def test_a_perfect_small_sample_does_not_claim_certainty() -> None:
    weights = metrics.resample(np.arange(20), draws=100, rng=rng())
    found = metrics.auc(np.arange(20), np.arange(20) >= 10, weights=weights)
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(0.7225, abs=1e-4)  # Wilson, 10 of 10


def test_a_draw_without_a_label_is_left_out() -> None:
    weights = np.array([[1.0, 1, 1], [0, 2, 1], [2, 1, 0], [1, 0, 2]])
    found = metrics.auc([0.9, 0.1, 0.95], [True, False, False], weights=weights)
    assert np.isnan(found.draws[0])
    assert (found.low, found.high) == pytest.approx((0.025, 0.975), abs=1e-9)


def test_a_mean_moves_with_the_draws_that_its_parts_share() -> None:
    first = Estimate(0.5, 0, 1, 10, np.array([0.4, 0.6]))
    second = Estimate(0.7, 0, 1, 10, np.array([0.8, np.nan]))
    found = metrics.mean([first, second])
    assert found.value == pytest.approx(0.6)
    assert found.draws.tolist() == pytest.approx([0.6, 0.6])
    assert found.n == 2


@pytest.mark.parametrize("parts", [[], [Estimate(0.5, 0, 1, 1), Estimate(0.5, 0, 1, 1, np.zeros(3))]])
def test_a_mean_needs_the_same_draws(parts: list[Estimate]) -> None:
    with pytest.raises(InputError, match="same number of draws"):
        metrics.mean(parts)


def test_an_estimate_is_ready_for_json() -> None:
    found = Estimate(1 / 3, 0.25, 0.5, 9).to_dict()
    assert found == {"value": 0.33333, "low": 0.25, "high": 0.5, "n": 9}
