"""Evaluation: predictions are kept, and each number can be worked out from scores that stand in the texts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tiny
from crest.errors import InputError, MissingExtraError
from crest.eval import __main__ as command
from crest.eval import predictions
from crest.eval.evaluate import HELD_OUT, Settings, evaluate, groups, write_results
from crest.eval.predictions import Scorer, fingerprint, read_assembled, read_bench
from judges import ReadingJudge, row, write, write_assembled, write_benches

FEW = Settings(draws=20)


@pytest.fixture(scope="module")
def assembled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_assembled(tmp_path_factory.mktemp("assembled"))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_benches(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def results(assembled: Path, data_dir: Path) -> dict[str, Any]:
    return evaluate(ReadingJudge(), assembled=assembled, data_dir=data_dir, settings=FEW)


def values(measures: dict[str, Any]) -> dict[str, float]:
    return {name: each["value"] for name, each in measures.items() if name != "languages"}


def test_a_language_has_recall_beside_false_positives(results: dict[str, Any]) -> None:
    swahili = values(results["held_out"]["languages"]["sw"])
    assert swahili == {
        "auc": 14 / 16,
        "recall": 0.5,
        "fpr_safe": 0.25,
        "fpr_benign": 0,
        "recall_at_fpr1": 1,
        "recall_at_fpr5": 1,
    }


def test_recall_at_a_rate_depends_on_the_benign_text_of_the_language(results: dict[str, Any]) -> None:
    english = values(results["held_out"]["languages"]["en"])
    assert english["fpr_benign"] == 0.5
    assert english["recall_at_fpr5"] == 0  # the highest benign score is .95


def test_every_number_has_an_interval_around_it(results: dict[str, Any]) -> None:
    found = []

    def visit(value: Any) -> None:
        if isinstance(value, dict) and "low" in value:
            found.append(value)
        elif isinstance(value, dict):
            for each in value.values():
                visit(each)

    visit(results)
    assert len(found) == 90
    assert all(each["low"] <= each["value"] <= each["high"] for each in found)


def test_a_group_is_the_mean_of_its_languages(results: dict[str, Any]) -> None:
    sources = results["held_out"]["groups"]["sources"]
    assert sources["languages"] == ["en", "sw"]
    assert values(sources)["recall"] == 0.75
    assert results["held_out"]["groups"]["bonus"] == {}


def test_the_groups_share_no_language_but_the_papers_eleven() -> None:
    found = groups()
    sizes = {name: len(codes) for name, codes in found.items()}
    assert sizes == {"sources": 13, "others": 81, "ood": 11, "romanised": 9, "bonus": 13}
    assert set(found["ood"]) < set(found["others"])
    assert len({code for name, codes in found.items() if name != "ood" for code in codes}) == 116
    assert len(HELD_OUT) == 9


def test_held_out_languages_are_measured_apart(results: dict[str, Any]) -> None:
    translated = results["held_out"]["translated"]
    assert translated["held_out"]["languages"] == ["fr"]
    assert translated["others"]["languages"] == ["sw"]
    assert values(translated["held_out"])["auc"] == 1


def test_replies_are_judged_with_their_prompt(results: dict[str, Any]) -> None:
    assert values(results["held_out"]["dialogues"]["languages"]["en"])["auc"] == 1


def test_the_languages_found_are_counted(results: dict[str, Any]) -> None:
    found = results["held_out"]["language_identification"]
    assert {code: each["value"] for code, each in found["languages"].items()} == {"en": 1, "sw": 0.9}
    assert found["mean"] == 0.95


def test_benign_text_is_reported_by_language_and_on_average(results: dict[str, Any]) -> None:
    assert results["held_out"]["benign"]["mean"] == 0.25


def test_a_set_of_unsafe_rows_has_its_recall_beside_the_rate_on_benign_text(results: dict[str, Any]) -> None:
    attacks = results["bench"]["attacks"]
    assert (attacks["unsafe"], attacks["safe"]) == (2, 0)
    assert attacks["mean"]["recall"]["value"] == 0.5
    assert attacks["mean"]["fpr_benign"]["value"] == 0.25
    assert "auc" not in attacks["mean"]


def test_a_mixed_set_has_an_auc_and_prompts_stand_alone(results: dict[str, Any]) -> None:
    mixed = values(results["bench"]["mixed"]["languages"]["en"])
    assert (mixed["auc"], mixed["fpr_safe"]) == (1, 0)


def test_prompts_and_replies_of_a_set_are_apart(results: dict[str, Any]) -> None:
    assert set(results["bench"]) == {"attacks", "mixed", "replies/prompt", "replies/response"}
    assert results["bench"]["replies/response"]["mean"]["recall"]["value"] == 1
    assert results["bench"]["replies/prompt"]["mean"]["recall"]["value"] == 0


def test_the_results_say_what_was_measured(results: dict[str, Any]) -> None:
    assert results["model"]["revision"] == "7"
    assert results["settings"]["draws"] == 20
    assert {len(each) for each in results["inputs"].values()} == {64}


def test_the_same_seed_gives_the_same_results(results: dict[str, Any], assembled: Path, data_dir: Path) -> None:
    assert evaluate(ReadingJudge(), assembled=assembled, data_dir=data_dir, settings=FEW) == results


def test_predictions_are_kept_and_not_made_again(assembled: Path, data_dir: Path, tmp_path: Path) -> None:
    judge = ReadingJudge()
    first = evaluate(judge, assembled=assembled, data_dir=data_dir, predictions=tmp_path, settings=FEW)
    asked = judge.asked
    assert asked == 23 + 20 + 6
    second = evaluate(judge, assembled=assembled, data_dir=data_dir, predictions=tmp_path, settings=FEW)
    assert (second, judge.asked) == (first, asked)


@pytest.mark.parametrize("changed", ["model", "texts"])
def test_predictions_of_another_model_or_other_texts_are_made_again(changed: str, tmp_path: Path) -> None:
    examples = read_assembled(write(tmp_path / "rows.jsonl", [row("en 0.9"), row("sw 0.1")]))
    Scorer(ReadingJudge(), folder=tmp_path).score("rows", examples)
    judge = ReadingJudge(sha256=("2" if changed == "model" else "0") * 64)
    Scorer(judge, folder=tmp_path).score("rows", examples[:1] if changed == "texts" else examples)
    assert judge.asked == (1 if changed == "texts" else 2)


def test_the_card_does_not_change_a_fingerprint(tiny_bundle: Path) -> None:
    one, other = ReadingJudge().manifest, ReadingJudge().manifest
    other.files["CARD.md"] = other.files["model.onnx"]  # type: ignore[index]
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(one) != fingerprint(ReadingJudge(sha256="3" * 64).manifest)


def test_damaged_predictions_are_one_clear_error(tmp_path: Path) -> None:
    examples = read_assembled(write(tmp_path / "rows.jsonl", [row("en 0.9")]))
    (tmp_path / "rows.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(InputError, match="delete it"):
        Scorer(ReadingJudge(), folder=tmp_path).score("rows", examples)


def test_nothing_to_score_is_an_error() -> None:
    with pytest.raises(InputError, match="no examples"):
        Scorer(ReadingJudge()).score("rows", [])


def test_progress_is_told_by_chunks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(predictions, "CHUNK", 2)
    told: list[str] = []
    examples = read_assembled(write(tmp_path / "rows.jsonl", [row(f"en 0.{digit}") for digit in range(3)]))
    scored = Scorer(ReadingJudge(), progress=told.append).score("rows", examples)
    assert scored.score.tolist() == [0, 0.1, 0.2]
    assert told == ["rows: 2 of 3 texts", "rows: 3 of 3 texts"]


def test_a_limit_keeps_the_first_rows_of_each_language(assembled: Path) -> None:
    kept = read_assembled(assembled / "benign-test.jsonl", limit=3)
    assert [each.text for each in kept][:3] == ["en 0.05 b", "en 0.15 b", "en 0.25 b"]
    assert [each.language for each in kept] == ["en"] * 3 + ["sw"] * 3


def test_a_limit_of_a_benchmark_keeps_rows_of_each_label(data_dir: Path, tmp_path: Path) -> None:
    rows = [
        {"text": f"en 0.{digit}", "lang": "en", "label": label, "unit": "prompt", "dataset": "x", "id": "1"}
        for digit in range(9)
        for label in ("safe", "unsafe")
    ]
    kept = read_bench(write(tmp_path / "x.jsonl.xz", rows), limit=2)
    assert sorted(each.label for each in kept) == ["safe", "safe", "unsafe", "unsafe"]
    assert kept == read_bench(write(tmp_path / "y.jsonl.xz", reversed(rows)), limit=2)


def test_translations_of_a_benchmark_row_share_a_key(tmp_path: Path) -> None:
    rows = [
        {"text": code, "lang": code, "label": "safe", "unit": "prompt", "dataset": "x", "id": f"{code}-crime-1"}
        for code in ("ar", "zh")
    ]
    assert [each.id for each in read_bench(write(tmp_path / "x.jsonl.xz", rows))] == ["crime-1", "crime-1"]


@pytest.mark.parametrize("bad", [{"text": "en"}, row("en 0.9", "harmful"), 7])
def test_a_malformed_row_is_one_clear_error(bad: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [bad])
    with pytest.raises(InputError, match=r"rows\.jsonl does not hold labelled rows"):
        read_assembled(path)


def test_a_missing_or_damaged_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is the folder right"):
        read_assembled(tmp_path / "none.jsonl")
    (tmp_path / "bad.jsonl.xz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="is the folder right"):
        read_bench(tmp_path / "bad.jsonl.xz")


def test_a_data_folder_without_benchmarks_is_refused(assembled: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is --data-dir right"):
        evaluate(ReadingJudge(), assembled=assembled, data_dir=tmp_path, settings=FEW)


def test_a_test_fold_without_seeds_is_refused(assembled: Path, tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", [row("en 0.9", "unsafe", source="corpus")])
    (tmp_path / "benign-test.jsonl").write_bytes((assembled / "benign-test.jsonl").read_bytes())
    with pytest.raises(InputError, match="no rows of the seeds"):
        evaluate(ReadingJudge(), assembled=tmp_path, settings=FEW)


class FakeDetector:
    """Calls everything English, but finds nothing in the last text."""

    def detect_languages_in_parallel_of(self, texts: Iterable[str]) -> list[Any]:
        return [*[language("EN") for _text in texts][:-1], None]


def language(code: str) -> Any:
    return SimpleNamespace(iso_code_639_1=SimpleNamespace(name=code))


def test_lingua_is_compared_on_the_languages_that_both_know(assembled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = SimpleNamespace(build=FakeDetector)
    fake = SimpleNamespace(
        Language=SimpleNamespace(all=lambda: [language("EN"), language("XX")]),
        LanguageDetectorBuilder=SimpleNamespace(from_all_languages=lambda: built),
    )
    monkeypatch.setitem(sys.modules, "lingua", fake)
    found = evaluate(ReadingJudge(), assembled=assembled, settings=Settings(draws=5, lingua=True))["lingua"]
    assert found["lingua_languages"] == 2
    assert found["crest"]["mean"] == 1
    assert {code: each["value"] for code, each in found["lingua"]["languages"].items()} == {"en": 0.9}


def test_without_lingua_the_error_names_the_extra(assembled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lingua", None)
    with pytest.raises(MissingExtraError, match=r"crest-guard\[bench\]"):
        evaluate(ReadingJudge(), assembled=assembled, settings=Settings(draws=5, lingua=True))


def test_results_are_written_with_an_estimate_on_a_line(results: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "default/7.json"
    write_results(path, results)
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == results
    assert '"recall": { "value": 0.5, "low": ' in text
    assert '"languages": [ "en", "sw" ]' in text


def test_the_command_measures_a_bundle(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row("the bomb", "unsafe", language="en"), row("the cake", language="en")]
    write(tmp_path / "test.jsonl", rows)
    write(tmp_path / "benign-test.jsonl", [row("habari", language="sw"), row("the", language="en")])
    out = tmp_path / "results/1.json"
    arguments = ["--assembled", str(tmp_path), "--out", str(out), "--model", str(tiny_bundle)]
    with pytest.raises(SystemExit) as ended:
        command.main([*arguments, "--predictions", str(tmp_path / "p"), "--threads", "1"])
    assert ended.value.code == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["model"]["name"] == "tiny"
    assert values(found["held_out"]["languages"]["en"])["recall"] == 1
    assert f"wrote {out}" in capsys.readouterr().err
    scores = np.load(next((tmp_path / "p").glob("*/test.npz")))["score"]
    assert scores == pytest.approx([tiny.ONE_BOMB, tiny.SAFE])


def test_the_commands_error_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--assembled", str(tmp_path), "--out", "x.json", "--model", str(tmp_path / "none")])
    assert ended.value.code == 4
    assert capsys.readouterr().err.startswith("crest: error: there is no folder")
