"""The guard: one verdict for each text, in order, worked out by eye from the rule in `tiny.py`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import tiny
from crest import Guard
from crest.backend import Backend, Logits
from crest.bundle import CALIBRATION, MODEL, TOKENIZER, WEIGHTS, open_bundle, write_manifest
from crest.calibration import Calibration, load
from crest.encode import Tokenizer
from crest.errors import BackendError, BundleError, InputError, ModelNotFoundError
from crest.taxonomy import CATEGORIES
from crest.types import Span, Verdict


def make(folder: Path, backend: Backend, *, calibration: Calibration | None = None) -> Guard:
    """A guard around the tiny bundle with another backend."""
    return Guard(
        open_bundle(folder),
        tokenizer=Tokenizer(folder / TOKENIZER),
        backend=backend,
        calibration=calibration or load(folder / CALIBRATION),
    )


def one(guard: Guard, text: str) -> Verdict:
    (verdict,) = guard.check([text])
    return verdict


# --- check


def test_a_harmless_text_is_safe(guard: Guard) -> None:
    verdict = one(guard, "the cake")
    assert not verdict.flagged
    assert verdict.score == pytest.approx(tiny.SAFE)
    assert (verdict.categories, verdict.spans, verdict.reason) == ((), (), None)


def test_a_harmful_text_is_flagged_with_its_category(guard: Guard) -> None:
    verdict = one(guard, "the bomb")
    assert verdict.flagged
    assert verdict.score == pytest.approx(tiny.ONE_BOMB)
    assert verdict.categories == ("weapons",)
    assert verdict.category_scores["weapons"] == pytest.approx(tiny.ONE_BOMB)
    assert verdict.category_scores["drugs"] == pytest.approx(tiny.SAFE)
    assert tuple(verdict.category_scores) == CATEGORIES
    assert verdict.spans == (Span(0, 8, verdict.score),)


def test_the_language_has_its_probability(guard: Guard) -> None:
    english, swahili = guard.check(["the cake", "habari"])
    assert (english.language, swahili.language) == ("en", "sw")
    assert english.language_score == swahili.language_score == pytest.approx(1 / (1 + np.exp(-2)))


def test_the_language_chooses_the_threshold(guard: Guard) -> None:
    english, swahili, worse = guard.check(["bomb", "habari bomb", "habari bomb bomb"])
    assert english.score == swahili.score
    assert (english.flagged, english.threshold) == (True, 0.5)
    assert (swahili.flagged, swahili.threshold, swahili.categories, swahili.spans) == (False, 0.99, (), ())
    assert worse.flagged


def test_a_threshold_of_the_caller_holds_for_every_language(tiny_bundle: Path) -> None:
    verdicts = Guard.from_pretrained(tiny_bundle, threshold=0.01).check(["cake", "habari", ""])
    assert [(verdict.flagged, verdict.threshold) for verdict in verdicts] == [(True, 0.01), (True, 0.01), (False, 0.01)]


def test_categories_come_riskiest_first(tiny_bundle: Path) -> None:
    class Graded(tiny.RuleBackend):
        def run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Logits:
            category = np.full((len(ids), len(CATEGORIES)), -1, dtype=np.float32)
            category[:, [3, 7, 5]] = (1, 3, 2)
            return super().run(ids, mask)._replace(category=category)

    assert one(make(tiny_bundle, Graded()), "bomb").categories == (CATEGORIES[7], CATEGORIES[5], CATEGORIES[3])


@pytest.mark.parametrize("text", ["", " ", "\n\t \u3000", "\u200b\u200e\x00", "\ud800"])
def test_a_text_with_nothing_to_read_is_safe_and_too_short(text: str, guard: Guard) -> None:
    verdict = one(guard, text)
    assert (verdict.flagged, verdict.score, verdict.reason, verdict.abstained) == (False, 0.0, "too_short", False)
    assert (verdict.language, verdict.language_score, verdict.coverage) == ("und", 0.0, 1.0)
    assert set(verdict.category_scores.values()) == {0.0}


@pytest.mark.parametrize("text", ["bo\x00mb", "\ud800 bomb", "\u202ebomb\u202c", "ｂｏｍｂ", "b\u200bo\u200dm\u2060b"])
def test_invisible_characters_do_not_hide_a_word(text: str, guard: Guard) -> None:
    assert one(guard, text).flagged


def test_a_text_beyond_the_vocabulary_is_not_called_safe_in_silence(guard: Guard) -> None:
    unread, half = guard.check(["中文中文", "cake cake cake 中文"])
    assert (unread.abstained, unread.reason, unread.coverage) == (True, "unsupported_language", 0.0)
    assert (half.abstained, half.reason) == (False, None)
    assert half.coverage == pytest.approx(1 - 2 / 17)


def test_the_riskiest_window_speaks_for_a_long_text(guard: Guard) -> None:
    verdict = one(guard, "cake " * 50 + "bomb " + "cake " * 50)
    assert verdict.score == pytest.approx(tiny.ONE_BOMB)
    assert verdict.categories == ("weapons",)
    assert verdict.coverage == 1.0


def test_spans_are_where_the_harm_is_and_touching_ones_are_joined(guard: Guard) -> None:
    text = "bomb " + "cake " * 60 + "bomb bomb " + "cake " * 30
    first, second = one(guard, text).spans
    assert (first.begin, first.end) == (0, 14 * 5 - 1)
    assert first.score == pytest.approx(tiny.ONE_BOMB)
    assert second.begin <= 61 * 5 - 1 < 63 * 5 - 1 <= second.end < len(text)
    assert second.score == pytest.approx(1 / (1 + np.exp(-12)))


def test_spans_count_original_characters(guard: Guard) -> None:
    text = "\u200b" * 100 + "ﬁ " * 30 + "\u200bbo\u200bmb"
    assert text[slice(*_ends(one(guard, text).spans[-1]))].endswith("bo\u200bmb")


def _ends(span: Span) -> tuple[int, int]:
    return span.begin, span.end


def test_the_longer_window_weighs_more_for_the_language(tiny_bundle: Path) -> None:
    class ByLength(tiny.RuleBackend):
        """The language is 2 x (tokens that are cake) for English against 10 for Swahili."""

        def run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Logits:
            language = np.stack([2.0 * (ids == tiny.CAKE).sum(axis=1), np.full(len(ids), 10.0)], axis=1)
            return super().run(ids, mask)._replace(language=language.astype(np.float32))

    guard = make(tiny_bundle, ByLength())
    assert one(guard, "cake " * 4).language == "sw"
    assert one(guard, "cake " * 20).language == "en"


def test_order_is_kept_whatever_the_lengths(guard: Guard) -> None:
    texts = ["cake " * n + "bomb" * (n % 2) for n in (40, 1, 7, 0, 90, 3, 2, 25)]
    assert [verdict.flagged for verdict in guard.check(texts)] == [n % 2 == 1 for n in (40, 1, 7, 0, 90, 3, 2, 25)]


def test_no_texts_give_no_verdicts(guard: Guard) -> None:
    assert guard.check([]) == []
    assert guard.check_pairs([]) == []


def test_ten_thousand_texts_give_a_verdict_each(guard: Guard) -> None:
    verdicts = guard.check(["the bomb", "the cake"] * 5000)
    assert [verdict.flagged for verdict in verdicts] == [True, False] * 5000


def test_a_megabyte_is_one_verdict_that_covers_all_of_it(guard: Guard) -> None:
    verdict = one(guard, "the cake " * 60_000 + "bomb" + " the cake" * 60_000)
    assert (verdict.flagged, verdict.coverage) == (True, 1.0)
    assert len(verdict.spans) == 1


def test_verdicts_are_ready_for_json(guard: Guard) -> None:
    assert json.loads(json.dumps([verdict.to_dict() for verdict in guard.check(["bomb", ""])]))[0]["flagged"] is True


def test_threads_may_share_a_guard(guard: Guard) -> None:
    texts = ["bomb " + "cake " * n for n in range(20)]
    alone = guard.check(texts)
    with ThreadPoolExecutor(8) as pool:
        assert all(found == alone for found in pool.map(guard.check, [texts] * 40))


# --- what is refused


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("text", r"check\(\) takes a list, got one str; for one, pass \[text\]"),
        (b"text", r"got one bytes; for one, pass \[text\]"),
        (None, r"got NoneType; pass \[text, \.\.\.\]"),
        (7, "got int"),
        ({"a": 1}, "got dict"),
        ({"a"}, "got set"),
        (["a", None], "text 1 is NoneType, not str; pass str"),
        (["a", "b", b"c"], "text 2 is bytes, not str; decode it first"),
        ([["a"]], "text 0 is list"),
        ([1.5], "text 0 is float"),
    ],
)
def test_what_is_no_list_of_texts_is_refused_by_name(texts: Any, message: str, guard: Guard) -> None:
    with pytest.raises(InputError, match=message):
        guard.check(texts)


def test_predict_proba_names_itself(guard: Guard) -> None:
    with pytest.raises(InputError, match=r"predict_proba\(\) takes a list"):
        guard.predict_proba("text")


def test_any_iterable_of_texts_will_do(guard: Guard) -> None:
    def texts() -> Iterator[str]:
        yield from ("bomb", "cake")

    given: tuple[Any, ...] = (("bomb", "cake"), texts(), np.array(["bomb", "cake"]))
    for each in given:
        assert [verdict.flagged for verdict in guard.check(each)] == [True, False]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("ab", r"for one, pass \[\(prompt, response\)\]"),
        (["ab"], "pair 0 is not"),
        ([("a", "b"), ("a",)], "pair 1 is not"),
        ([("a", None)], "use '' for an unknown prompt"),
        ([(b"a", "b")], "pair 0 is not"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_list_of_pairs_is_refused_by_name(pairs: Any, message: str, guard: Guard) -> None:
    with pytest.raises(InputError, match=message):
        guard.check_pairs(pairs)


# --- pairs


def test_a_response_is_judged_in_the_context_of_its_prompt(guard: Guard) -> None:
    harmless, harmful, by_prompt = guard.check_pairs([("cake", "the"), ("cake", "bomb"), ("bomb", "the")])
    assert [verdict.flagged for verdict in (harmless, harmful, by_prompt)] == [False, True, True]
    assert by_prompt.spans == (Span(0, 3, by_prompt.score),)


def test_a_pair_without_a_prompt_is_as_its_response(guard: Guard) -> None:
    assert guard.check_pairs([("", "the bomb")]) == guard.check(["the bomb"])


def test_an_empty_response_is_too_short(guard: Guard) -> None:
    assert guard.check_pairs([("bomb", "")])[0].reason == "too_short"


# --- predict_proba


def test_probabilities_are_safe_then_unsafe(guard: Guard) -> None:
    found = guard.predict_proba(["bomb", "", "cake"])
    assert found == pytest.approx(np.array([[tiny.SAFE, tiny.ONE_BOMB], [1, 0], [tiny.ONE_BOMB, tiny.SAFE]]))


def test_no_texts_have_no_probabilities(guard: Guard) -> None:
    assert guard.predict_proba([]).shape == (0, 2)
    assert guard.predict_proba([""]).tolist() == [[1.0, 0.0]]


def test_probabilities_are_the_scores_of_check(guard: Guard) -> None:
    texts = ["cake " * 40 + "bomb", "habari", "中"]
    assert guard.predict_proba(texts)[:, 1].tolist() == [verdict.score for verdict in guard.check(texts)]


# --- a model that fails


def test_a_logit_that_is_not_a_number_is_an_error_and_never_safe(tiny_bundle: Path) -> None:
    class NotANumber(tiny.RuleBackend):
        def run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Logits:
            logits = super().run(ids, mask)
            return logits._replace(unsafe=np.where(ids[:, 1] == tiny.CAKE, np.float32(np.nan), logits.unsafe))

    with pytest.raises(BackendError, match="not finite"):
        make(tiny_bundle, NotANumber()).check(["bomb", "cake"])


def test_a_model_with_other_heads_than_its_manifest_is_an_error(tiny_bundle: Path) -> None:
    class Narrow(tiny.RuleBackend):
        def run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Logits:
            logits = super().run(ids, mask)
            return logits._replace(category=logits.category[:, :3])

    with pytest.raises(BackendError, match="scores 3 categories and 2 languages, its manifest names 14 and 2"):
        make(tiny_bundle, Narrow()).check(["bomb"])


# --- from_pretrained, save_pretrained


def test_a_guard_says_what_it_scores(guard: Guard) -> None:
    assert guard.labels == ("safe", "unsafe")
    assert guard.categories == CATEGORIES
    assert guard.languages == ("en", "sw")
    assert guard.manifest.name == "tiny"


def test_a_saved_guard_opens_and_judges_alike(guard: Guard, tmp_path: Path) -> None:
    guard.save_pretrained(tmp_path / "copy")
    assert Guard.from_pretrained(tmp_path / "copy").check(["the bomb"]) == guard.check(["the bomb"])


@pytest.mark.parametrize("name", [MODEL, TOKENIZER, CALIBRATION])
def test_a_damaged_bundle_is_reported_as_such_whatever_it_breaks(name: str, own_bundle: Path) -> None:
    size = (own_bundle / name).stat().st_size
    (own_bundle / name).write_bytes(b"\xff" * size)
    with pytest.raises(BundleError, match=f"{name} was changed or damaged"):
        Guard.from_pretrained(own_bundle)


def test_a_model_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        Guard.from_pretrained(tmp_path / "none")


def test_weights_beside_the_model_are_read_and_verified(own_bundle: Path) -> None:
    manifest = open_bundle(own_bundle).manifest
    model = onnx.load(str(own_bundle / MODEL))
    onnx.save(model, str(own_bundle / MODEL), save_as_external_data=True, location=WEIGHTS, size_threshold=1024)
    written = write_manifest(own_bundle, manifest)
    assert WEIGHTS in written.files
    assert one(Guard.from_pretrained(own_bundle), "bomb").flagged
    (own_bundle / WEIGHTS).write_bytes(b"\0" * written.files[WEIGHTS].bytes)
    with pytest.raises(BundleError, match=f"{WEIGHTS} was changed or damaged"):
        Guard.from_pretrained(own_bundle)


@pytest.mark.parametrize("threads", [0, -1])
def test_threads_must_be_one_or_more(threads: int, tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match="pass 1 or more"):
        Guard.from_pretrained(tiny_bundle, threads=threads)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_must_lie_between_0_and_1(threshold: float, tiny_bundle: Path) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        Guard.from_pretrained(tiny_bundle, threshold=threshold)
