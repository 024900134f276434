"""The whole way: a recipe becomes a bundle that opens, and what is done is not done again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from conftest import Smoke
from crest import Guard
from crest.errors import RecipeError
from crest.pipeline.__main__ import app
from crest.pipeline.examples import LANGUAGES
from crest.pipeline.recipe import STEPS, read_recipe
from crest.pipeline.run import DONE, Places, run_recipe
from crest.taxonomy import CATEGORIES
from lab import DATA, ROOT, SMOKE, recipe


def run(*arguments: str | Path, made: Path = SMOKE) -> Result:
    return CliRunner().invoke(app, [str(made), "--data-dir", str(DATA), *map(str, arguments)])


def step_of(line: str) -> tuple[str, bool]:
    """Read a step's name and whether it was skipped in a line that the command said."""
    step, _, rest = line.partition(": ")
    return step, rest.startswith("done before, in ")


def steps_said(lines: list[str]) -> list[tuple[str, bool]]:
    return [step_of(line) for line in lines if line.partition(":")[0] in STEPS]


def steps_of(folder: Path) -> dict[str, Path]:
    """The steps' folders beside one of them."""
    return {path.name.partition("-")[0]: path for path in folder.parent.iterdir()}


def test_every_step_writes_a_folder_of_its_own_with_what_it_was_made_by(smoke: Smoke) -> None:
    folders = steps_of(smoke.folder)
    assert set(folders) == set(STEPS)
    assert steps_said(list(smoke.said)) == [(step, False) for step in STEPS]
    for step, folder in folders.items():
        facts = json.loads((folder / DONE).read_text(encoding="utf-8"))
        assert folder.name == f"{step}-{facts['fingerprint']}"
        assert (facts["recipe"], set(facts["packages"]) >= {"torch", "onnxruntime"}) == ("smoke", True)


def test_the_folder_printed_holds_a_bundle_that_checks_texts(smoke: Smoke) -> None:
    guard = Guard.from_pretrained(smoke.folder / "bundle", threads=1)
    verdicts = guard.check(["How do I bake a cake?", "", "किताब" * 300])
    assert [0 <= verdict.score <= 1 for verdict in verdicts] == [True] * 3
    assert (guard.categories, guard.languages) == (CATEGORIES, LANGUAGES)
    assert guard.manifest.name == "crest-smoke"


def test_the_bundle_has_a_threshold_for_every_language(smoke: Smoke) -> None:
    written = json.loads((smoke.folder / "bundle/calibration.json").read_text(encoding="utf-8"))
    assert set(written["languages"]) == set(LANGUAGES)


def test_the_bundle_says_what_the_trained_model_says(smoke: Smoke) -> None:
    parity = json.loads((steps_of(smoke.folder)["export"] / "parity.json").read_text(encoding="utf-8"))
    assert parity["texts"] == 2000
    assert parity["p99"] < 0.03


def test_the_manifest_counts_the_rows_of_each_source(smoke: Smoke) -> None:
    counts: dict[str, int] = {}
    for line in (steps_of(smoke.folder)["assemble"] / "train.jsonl").read_text(encoding="utf-8").splitlines():
        source = json.loads(line)["source"]
        counts[source] = counts.get(source, 0) + 1
    manifest = Guard.from_pretrained(smoke.folder / "bundle", threads=1).manifest
    assert {each["name"]: each["rows"] for each in manifest.sources} == counts
    assert {each["licence"] for each in manifest.sources} == {"CC0-1.0"}


def test_a_second_run_skips_every_step(smoke: Smoke) -> None:
    before = {path: path.stat().st_mtime_ns for path in smoke.folder.parent.rglob("*")}
    result = run("--runs", smoke.folder.parent)
    assert (result.exit_code, result.stdout.strip()) == (0, str(smoke.folder))
    assert steps_said(result.stderr.splitlines()) == [(step, True) for step in STEPS]
    assert {path: path.stat().st_mtime_ns for path in smoke.folder.parent.rglob("*")} == before


@pytest.mark.parametrize("step", list(STEPS))
def test_a_run_until_a_step_ends_there(smoke: Smoke, step: str) -> None:
    result = run("--runs", smoke.folder.parent, "--until", step)
    assert Path(result.stdout.strip()) == steps_of(smoke.folder)[step]
    assert len(result.stderr.splitlines()) == list(STEPS).index(step) + 1


def test_a_changed_calibration_runs_calibrate_alone(smoke: Smoke, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    for step, folder in steps_of(smoke.folder).items():
        if step != "calibrate":
            (tmp_path / "runs" / folder.name).symlink_to(folder)
    changed = tmp_path / "r.toml"
    text = SMOKE.read_text(encoding="utf-8")
    assert text.endswith("[calibrate]\n")
    changed.write_text(text + "min_threshold = 0.9\n", encoding="utf-8")
    result = run("--runs", tmp_path / "runs", made=changed)
    assert result.exit_code == 0, result.stderr
    assert steps_said(result.stderr.splitlines()) == [(step, step != "calibrate") for step in STEPS]
    bundle = Path(result.stdout.strip()) / "bundle"
    thresholds = json.loads((bundle / "calibration.json").read_text(encoding="utf-8"))["languages"].values()
    assert {each["threshold"] for each in thresholds} == {0.9}


def test_a_step_that_was_not_finished_runs_again(smoke: Smoke, tmp_path: Path) -> None:
    for step, folder in steps_of(smoke.folder).items():
        if step != "calibrate":
            (tmp_path / folder.name).symlink_to(folder)
    (tmp_path / smoke.folder.name / "bundle").mkdir(parents=True)
    (tmp_path / smoke.folder.name / "bundle/manifest.json").write_text("{", encoding="utf-8")
    result = run("--runs", tmp_path)
    assert steps_said(result.stderr.splitlines())[-1] == ("calibrate", False)
    Guard.from_pretrained(Path(result.stdout.strip()) / "bundle", threads=1).check(["a"])


@pytest.mark.parametrize(
    ("made", "arguments", "told"),
    [
        ("default.toml", (), "the recipe's encoder is intfloat/multilingual-e5-small; give its folder with --encoder"),
        ("smoke.toml", ("--encoder", "e"), "the recipe makes a random encoder; leave out --encoder"),
        ("smoke.toml", ("--until", "nothing"), "there is no step 'nothing'; choose from assemble, train, export, "),
        ("none.toml", (), "cannot read the recipe "),
    ],
)
def test_what_cannot_be_run_is_told_in_one_line(
    made: str, arguments: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    result = run("--runs", tmp_path / "runs", *arguments, made=ROOT / "recipes" / made)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(told) and result.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_missing_encoder_is_a_recipe_error(tmp_path: Path) -> None:
    places = Places(data_dir=DATA, encoder=None, runs=tmp_path)
    with pytest.raises(RecipeError, match="give its folder with --encoder"):
        run_recipe(read_recipe(ROOT / "recipes/default.toml"), places, say=print)


def test_an_encoder_folder_without_a_tokenizer_is_a_recipe_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    places = Places(data_dir=DATA, encoder=tmp_path / "empty", runs=tmp_path / "runs")
    with pytest.raises(RecipeError, match=r"cannot read .*tokenizer\.json: "):
        run_recipe(recipe(encoder={"source": "encoder"}, mix={}), places, say=print)


def test_other_data_make_other_folders(tmp_path: Path) -> None:
    said: list[str] = []
    for content in ("a", "ab"):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data/x.tsv").write_text(content, encoding="utf-8")
        places = Places(data_dir=tmp_path / "data", encoder=None, runs=tmp_path / "runs")
        with pytest.raises(RecipeError, match=r"cannot read .*corpus\.tsv"):
            run_recipe(recipe(), places, say=said.append)
    assert len(set(said)) == len(said) == 2
