"""Recipes: what a file may say, and which steps a change runs again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from crest.errors import RecipeError
from crest.pipeline.recipe import STEPS, MixSettings, Recipe, read_recipe
from lab import ROOT, SMOKE, recipe

SMALL = """\
name = "small"
[encoder]
source = "random"
name = "random"
licence = "CC0-1.0"
[folds]
test = 0.2
dev = 0.1
[texts]
safe = 1
language = 2
calibrate = 3
test = 4
[mix]
corpus = {}
[train]
epochs = 2
batch_tokens = 3000
learning_rate = 1e-3
[export]
[calibrate]
"""


def read(folder: Path, text: str) -> Recipe:
    path = folder / "r.toml"
    path.write_text(text, encoding="utf-8")
    return read_recipe(path)


def test_every_recipe_of_the_repository_can_be_read() -> None:
    recipes = {path.stem: read_recipe(path) for path in (ROOT / "recipes").glob("*.toml")}
    assert sorted(recipes) == ["default", "smoke", "sources13"]
    assert [stem for stem, made in recipes.items() if made.name != stem] == []


def test_settings_left_out_have_defaults(tmp_path: Path) -> None:
    made = read(tmp_path, SMALL)
    assert (made.encoder.pieces, made.folds.languages, made.train.seed) == (0, (), 1)
    assert made.mix == {"corpus": MixSettings()}


def test_a_whole_number_is_a_float_where_one_is_asked_for(tmp_path: Path) -> None:
    epochs = read(tmp_path, SMALL).train.epochs
    assert epochs == 2.0 and isinstance(epochs, float)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name = "small"', 'nmae = "small"', "r.toml: unknown setting 'nmae'; choose from calibrate, encoder, "),
        ('name = "small"', "", "r.toml: 'name' is missing"),
        ('name = "small"', "name = 3", "r.toml: name: expected str, found 3"),
        ("epochs =", "epoch =", "r.toml: train: unknown setting 'epoch'; choose from average, batch_tokens, "),
        ("epochs = 2", "", "r.toml: train: 'epochs' is missing"),
        ("epochs = 2", "epochs = true", "r.toml: train: epochs: expected float, found True"),
        ("epochs = 2", 'epochs = "2"', "r.toml: train: epochs: expected float, found '2'"),
        ("3000", "3000.0", "r.toml: train: batch_tokens: expected int, found 3000.0"),
        ("3000", "true", "r.toml: train: batch_tokens: expected int, found True"),
        ("3000", "3000\nbf16 = 1", "r.toml: train: bf16: expected bool, found 1"),
        (
            "dev = 0.1",
            'dev = 0.1\nlanguages = "fr"',
            "r.toml: folds: languages: expected a list of strings, found 'fr'",
        ),
        ("dev = 0.1", "dev = 0.1\nlanguages = [1]", "r.toml: folds: languages: expected a list of strings, found [1]"),
        ("corpus = {}", "corpus = 2", "r.toml: mix.corpus: expected a table, found 2"),
        (
            "corpus = {}",
            "corpus = { caps = 2 }",
            "r.toml: mix.corpus: unknown setting 'caps'; choose from cap, repeat, ",
        ),
        ("[mix]\ncorpus = {}\n", "", "r.toml: 'mix' is missing"),
        ("[export]\n", "", "r.toml: 'export' is missing"),
        ('name = "small"', 'name = "small"\nexport = 1', "cannot read the recipe "),
        ("[mix]", "[mix", "cannot read the recipe "),
    ],
)
def test_what_does_not_fit_is_named_with_its_place(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in SMALL
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, SMALL.replace(old, new, 1))
    message = str(caught.value)
    assert message.removeprefix(f"{tmp_path}/").startswith(told)
    assert "\n" not in message


@pytest.mark.parametrize(("section", "lines"), [("mix", "[mix]\ncorpus = {}\n"), ("export", "[export]\n")])
def test_a_section_is_a_table(tmp_path: Path, section: str, lines: str) -> None:
    with pytest.raises(RecipeError, match=f"{section}: expected a table, found 3$"):
        read(tmp_path, f"{section} = 3\n" + SMALL.replace(lines, ""))


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"cannot read the recipe .*none\.toml: "):
        read_recipe(tmp_path / "none.toml")


def test_a_recipe_is_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(b'name = "caf\xe9"\n')
    with pytest.raises(RecipeError, match=r"cannot read the recipe .*r\.toml: "):
        read_recipe(path)


def prints(made: Recipe, *, inputs: str = "") -> dict[str, str]:
    return {step: made.fingerprint(step, inputs=inputs) for step in STEPS}


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"encoder": {"pieces": 7}}, "assemble"),
        ({"folds": {"dev": 0.2}}, "assemble"),
        ({"texts": {"safe": 7}}, "assemble"),
        ({"mix": {"corpus": MixSettings(cap=7)}}, "assemble"),
        ({"train": {"seed": 7}}, "assemble"),
        ({"train": {"epochs": 7.0}}, "train"),
        ({"train": {"threads": 1}}, "train"),
        ({"export": {"overlap_tokens": 7}}, "export"),
        ({"calibrate": {"target_fpr": 0.07}}, "calibrate"),
        ({"name": "other"}, None),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_change_gives_a_new_fingerprint_from_the_first_step_that_it_touches_on(
    changes: dict[str, Any], first: str | None
) -> None:
    before, after = prints(recipe()), prints(recipe(**changes))
    changed = [step for step in STEPS if before[step] != after[step]]
    assert changed == ([] if first is None else list(STEPS)[list(STEPS).index(first) :])


def test_other_inputs_give_every_step_a_new_fingerprint() -> None:
    assert not set(prints(recipe(), inputs="a").values()) & set(prints(recipe(), inputs="b").values())


def test_no_two_steps_share_a_fingerprint() -> None:
    assert len(set(prints(recipe()).values())) == len(STEPS) == 4


def test_every_section_belongs_to_one_step() -> None:
    sections = [name for names in STEPS.values() for name in names]
    assert sorted(sections) == sorted({field.name for field in dataclasses.fields(Recipe)} - {"name"})


def test_the_order_of_settings_in_the_file_does_not_matter(tmp_path: Path) -> None:
    text = SMOKE.read_text(encoding="utf-8")
    other = text.replace("epochs = 2\nbatch_tokens = 3000\n", "batch_tokens = 3000\nepochs = 2\n")
    assert other != text
    assert prints(read(tmp_path, other)) == prints(recipe())
