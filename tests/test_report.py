"""The report: results become Markdown, and Markdown goes between the markers of a page."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from crest.bundle import CARD, open_bundle, write_manifest
from crest.errors import InputError
from crest.eval import report
from crest.eval.evaluate import Settings, evaluate, write_results
from judges import ReadingJudge, write_assembled, write_benches

PAGE = f"# Title\n\n{report.BEGIN}\nold\n{report.END}\n\nEnd.\n"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("report")
    write_assembled(folder / "a")
    write_benches(folder / "d")
    return evaluate(ReadingJudge("default"), assembled=folder / "a", data_dir=folder / "d", settings=Settings(draws=20))


@pytest.fixture
def results(measured: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(measured)


def second(results: dict[str, Any]) -> dict[str, Any]:
    other = copy.deepcopy(results)
    other["model"]["name"] = "sources13"
    return other


def cells(table: str, start: str) -> list[str]:
    line = next(line for line in table.split("\n") if line.startswith(f"| {start}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_language_has_a_row_with_intervals(results: dict[str, Any]) -> None:
    results["held_out"]["languages"]["sw"]["auc"] = {"value": 0.9123, "low": 0.85, "high": 1.0, "n": 8}
    results["held_out"]["languages"]["sw"]["recall"] = {"value": 0.5, "low": 0.1204, "high": 0.999, "n": 4}
    row = cells(report.language_table(results), "Swahili")
    assert row[:4] == ["Swahili", "`sw`", ".912 (.850-1.000)", "50 (12-99.9)"]
    assert len(row) == 6


def test_what_could_not_be_measured_is_a_dash(results: dict[str, Any]) -> None:
    del results["held_out"]["languages"]["sw"]["fpr_benign"]
    assert cells(report.language_table(results), "Swahili")[-1] == "-"


def test_languages_stand_in_the_order_of_their_names(results: dict[str, Any]) -> None:
    lines = report.language_table(results).split("\n")
    assert [line.split(" | ")[1] for line in lines[2:]] == ["`en`", "`sw`"]


def test_models_stand_side_by_side(results: dict[str, Any]) -> None:
    lines = report.summary_table([results, second(results)]).split("\n")
    titles = [line.split(" | ")[0].removeprefix("| ") for line in lines[2::2]]
    assert titles == [
        "seeds: the paper's 13 source languages",
        "English corpus",
        "replies in context, English",
        "corpus in languages held out of its translations",
    ]
    assert {line.split(" | ")[2] for line in lines[2::2]} == {"default"}
    assert {line.split(" | ")[2] for line in lines[3::2]} == {"sources13"}


def test_a_source_that_one_model_lacks_is_left_out(results: dict[str, Any]) -> None:
    other = second(results)
    del other["held_out"]["corpus"]
    assert "English corpus" not in report.summary_table([results, other])


def test_a_benchmark_shows_recall_beside_false_positives(results: dict[str, Any]) -> None:
    row = cells(report.bench_table([results]), "attacks")
    assert row[0] == "attacks (2 unsafe, 0 safe)"
    assert row[1:4] == ["2", "default", "-"]
    assert row[4].startswith("50 (")
    assert row[6].startswith("25 (")


def test_a_benchmark_that_one_model_lacks_is_left_out(results: dict[str, Any]) -> None:
    assert report.bench_table([results, {**second(results), "bench": {}}]) == ""


def test_the_worst_languages_are_named(results: dict[str, Any]) -> None:
    text = report.extremes(results)
    assert "Lowest AUC among XLM-R's languages: 0.875 (Swahili)." in text
    assert "mean of 2 languages: 25.0 %; highest: 50.0 % (English)." in text
    assert "Language found: 95.0 % of sentences, mean of 2 languages." in text


def test_languages_without_an_auc_are_not_called_lowest(results: dict[str, Any]) -> None:
    for each in results["held_out"]["languages"].values():
        del each["auc"]
    assert "Lowest AUC" not in report.extremes(results)


def test_lingua_stands_beside_the_model(results: dict[str, Any]) -> None:
    found = {"mean": 0.9, "languages": {"en": {}}}
    results["lingua"] = {"crest": {**found, "mean": 0.97}, "lingua": found}
    assert "on the 1 that the library lingua knows too, 97.0 % beside lingua's 90.0 %." in report.extremes(results)


def test_the_block_holds_all_tables(results: dict[str, Any]) -> None:
    text = report.block([results, second(results)])
    assert text.startswith("Model default 7. In brackets: 95 % intervals")
    assert [text.count(each) for each in ("| texts |", "| set |", "| language |")] == [1, 1, 1]
    assert "Interim" not in text


def test_a_block_without_benchmarks_has_no_empty_table(results: dict[str, Any]) -> None:
    results["bench"] = {}
    assert "| set |" not in report.block([results])


def test_a_partial_measurement_says_so(results: dict[str, Any]) -> None:
    results["settings"]["benign_limit"] = 150
    assert "Interim" in report.block([results])


@pytest.mark.parametrize("name", ["inputs", "settings"])
def test_models_measured_on_other_texts_do_not_share_a_table(name: str, results: dict[str, Any]) -> None:
    other = {**second(results), name: {}}
    with pytest.raises(InputError, match=f"differ in {name}"):
        report.block([results, other])


def test_the_headline_is_plain_numbers(results: dict[str, Any]) -> None:
    found = report.headline(results)
    assert found["seeds"]["sources"]["recall"] == 0.75
    assert (found["benign_fpr"], found["language_identification"]) == (0.25, 0.95)


def test_only_what_stands_between_the_markers_changes() -> None:
    assert report.replace_block(PAGE, "new") == PAGE.replace("old", "new")
    assert report.replace_block(report.replace_block(PAGE, "x"), "old") == PAGE


@pytest.mark.parametrize("page", ["", report.BEGIN, report.END + report.BEGIN, PAGE + PAGE, PAGE + report.END])
def test_a_page_without_its_pair_of_markers_is_refused(page: str) -> None:
    with pytest.raises(InputError, match="results:start"):
        report.replace_block(page, "new")


def test_the_card_of_a_bundle_is_hashed_again(own_bundle: Path) -> None:
    (own_bundle / CARD).write_text(PAGE, encoding="utf-8")
    write_manifest(own_bundle, open_bundle(own_bundle).manifest)
    report.write_page(own_bundle / CARD, "new")
    open_bundle(own_bundle).verify()
    assert "new" in (own_bundle / CARD).read_text(encoding="utf-8")


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 99}'])
def test_what_is_no_results_file_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"r\.json"):
        report.read_results(tmp_path / "r.json")


def test_the_command_fills_pages(results: dict[str, Any], tmp_path: Path) -> None:
    write_results(tmp_path / "r.json", results)
    for name in ("README.md", "CARD.md"):
        (tmp_path / name).write_text(PAGE, encoding="utf-8")
    pages = ["--readme", str(tmp_path / "README.md"), "--readme", str(tmp_path / "CARD.md")]
    with pytest.raises(SystemExit) as ended:
        report.main([str(tmp_path / "r.json"), *pages])
    assert ended.value.code == 0
    for name in ("README.md", "CARD.md"):
        assert "| Swahili | `sw` |" in (tmp_path / name).read_text(encoding="utf-8")


def test_the_command_prints_without_a_page(
    results: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.json").write_text(json.dumps(results), encoding="utf-8")
    with pytest.raises(SystemExit):
        report.main([str(tmp_path / "r.json")])
    assert capsys.readouterr().out == report.block([results]) + "\n"


def test_the_commands_error_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        report.main([str(tmp_path / "none.json")])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("crest: error: cannot read")
