"""The training set: what is kept aside stays aside, in every language, and the sources weigh what the recipe says."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from crest.encode import Tokenizer, normalise
from crest.errors import RecipeError
from crest.pipeline import sources
from crest.pipeline.assemble import assemble, share
from crest.pipeline.recipe import MixSettings, Recipe
from crest.pipeline.sources import Row, read_rows
from lab import DATA, corpus_texts, everything, recipe, write_data, write_safety_set, write_tsv

NAMES = ("train", "dev", "test", "benign-calibrate", "benign-test", "language")
KEPT = ("fr", "ja")


class Assembled(NamedTuple):
    folder: Path
    rows: dict[str, list[Row]]

    def keys(self, *names: str) -> set[str]:
        return {row.key for name in names for row in self.rows[name]}

    def texts(self, *names: str) -> set[str]:
        return {normalise(row.text).text for name in names for row in self.rows[name]}


def make(made: Recipe, data: Path, encoder: Path, out: Path) -> Assembled:
    out.mkdir(exist_ok=True)
    assemble(made, data_dir=data, encoder=encoder, out=out)
    return Assembled(out, {name: read_rows(out / f"{name}.jsonl") for name in NAMES})


@pytest.fixture(scope="module")
def published(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Assembled:
    """All data of this repository, in all languages."""
    return make(everything(), DATA, tiny_encoder, tmp_path_factory.mktemp("published"))


# --- Folds of the published data


def test_no_key_of_a_fold_is_trained_on_in_any_language(published: Assembled) -> None:
    held = published.keys("dev", "test")
    assert len(held) > 1000
    assert held.isdisjoint(published.keys("train"))
    assert published.keys("dev").isdisjoint(published.keys("test"))


def test_no_text_of_a_fold_is_trained_on(published: Assembled) -> None:
    held = published.texts("dev", "test")
    assert len(held) > 10_000
    assert held.isdisjoint(published.texts("train"))


def test_every_language_is_tested_on_the_same_seeds(published: Assembled) -> None:
    keys: dict[str, set[str]] = {}
    for row in published.rows["test"]:
        if row.source == "seeds":
            keys.setdefault(row.language, set()).add(row.key)
    assert len(keys) == 116
    assert len({frozenset(each) for each in keys.values()}) == 1


def test_no_translated_line_of_a_language_kept_aside_is_trained_on(published: Assembled) -> None:
    translated = {
        name: {row.language for row in rows if row.source == "translated"} for name, rows in published.rows.items()
    }
    assert len(translated["train"]) == 30 - len(KEPT)
    assert translated["train"].isdisjoint(KEPT)
    assert translated["test"].issuperset(KEPT)


def test_the_original_of_a_line_kept_aside_may_be_trained_on_only_if_nobody_is_tested_on_it(
    published: Assembled,
) -> None:
    tested = {row.key for row in published.rows["test"] if row.source == "translated" and row.language in KEPT}
    assert len(tested) > 50
    assert tested.isdisjoint(published.keys("train"))


def test_both_labels_are_trained_in_every_language(published: Assembled) -> None:
    labels: dict[str, set[str]] = {}
    for row in published.rows["train"]:
        labels.setdefault(row.language, set()).add(row.label)
    assert len(labels) == 116
    assert {code for code, each in labels.items() if each != {"safe", "unsafe"}} == set()


def test_shares_of_keys_are_those_of_the_recipe(published: Assembled) -> None:
    keys = {row.key for row in sources.corpus(DATA)} | {row.key for row in sources.seeds(DATA)}
    assert len(keys) > 5000
    for name, expected in (("test", 0.3), ("dev", 0.1)):
        assert len(published.keys(name) & keys) / len(keys) == pytest.approx(expected, abs=0.02)


def test_every_row_of_the_published_data_is_in_one_fold_or_in_a_language_kept_aside(published: Assembled) -> None:
    rows = [row for source in sources.LABELLED.values() for row in source(DATA)]
    written = Counter(row for name in ("train", "dev", "test") for row in published.rows[name])
    assert max(written.values()) == 1
    left_out = [row for row in rows if row not in written]
    held = published.texts("dev", "test")
    assert [
        row
        for row in left_out
        if not (row.source == "translated" and row.language in KEPT) and normalise(row.text).text not in held
    ] == []
    assert len(rows) == written.total() + len(left_out)


def test_thresholds_stand_on_the_safe_development_rows_where_there_is_no_running_text(published: Assembled) -> None:
    safe = [row for row in published.rows["dev"] if row.label == "safe"]
    assert published.rows["benign-calibrate"] == safe
    assert published.rows["benign-test"] == []


def test_statistics_count_the_rows(published: Assembled) -> None:
    told = json.loads((published.folder / "statistics.json").read_text(encoding="utf-8"))
    train = published.rows["train"]
    assert told["train"]["sw"] == Counter(row.label for row in train if row.language == "sw")
    assert told["train"]["corpus"] == Counter(row.label for row in train if row.source == "corpus")


# --- The rules, on a small folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The small data, with running text, a dictionary and a fetched set."""
    folder = write_data(tmp_path / "data")
    for code in ("en", "sw", "th"):
        write_tsv(folder / f"multilingual/monolingual/{code}.txt.xz", [(f"{code} sentence {n}",) for n in range(40)])
    write_tsv(
        folder / "multilingual/dictionary/sw.tsv.xz", [("bomb", "bomu", "x"), ("cake", "keki", "x"), ("I", "mimi", "x")]
    )
    write_tsv(folder / "multilingual/dictionary/de.tsv.xz", [("bomb", "Bombe", "x"), ("cake", "Kuchen", "x")])
    return folder


def build(made: Recipe, data: Path, encoder: Path) -> Assembled:
    return make(made, data, encoder, data.parent / f"out{len(list(data.parent.iterdir()))}")


def test_assembling_twice_gives_the_same_files(data: Path, tiny_encoder: Path) -> None:
    texts = {"languages": (), "switched": 2, "safe": 3, "language": 3, "calibrate": 3, "test": 3}
    made = everything(
        mix={"corpus": MixSettings(cap=30), "seeds": MixSettings(cap=9)}, texts=texts, encoder={"pieces": 900}
    )
    first, second = (build(made, data, tiny_encoder).folder for _ in range(2))
    names = sorted(path.name for path in first.iterdir())
    assert len(names) == len(NAMES) + 3
    assert [name for name in names if (first / name).read_bytes() != (second / name).read_bytes()] == []


def test_a_seed_chooses_other_rows(data: Path, tiny_encoder: Path) -> None:
    mix = {"corpus": MixSettings(cap=30)}
    first, second = (build(everything(mix=mix, train={"seed": seed}), data, tiny_encoder) for seed in (1, 2))
    assert first.rows["train"] != second.rows["train"]


def test_a_row_does_not_change_its_fold_when_the_mix_changes(data: Path, tiny_encoder: Path) -> None:
    alone = build(everything(mix={"corpus": MixSettings()}), data, tiny_encoder)
    among = build(everything(), data, tiny_encoder)
    for name in ("train", "dev", "test"):
        assert alone.rows[name] == [row for row in among.rows[name] if row.source == "corpus"]
        assert len(alone.rows[name]) > 0


def test_a_cap_holds_for_each_language_and_label_of_a_source(data: Path, tiny_encoder: Path) -> None:
    found = build(everything(mix={"corpus": MixSettings(cap=20), "seeds": MixSettings(cap=7)}), data, tiny_encoder)
    labelled = Counter(
        (row.source, row.language, row.label) for name in ("train", "dev", "test") for row in found.rows[name]
    )
    assert labelled == {
        **{("corpus", "en", label): 20 for label in ("safe", "unsafe")},
        **{("seeds", code, label): 7 for code in ("en", "fr", "sw") for label in ("safe", "unsafe")},
    }


def test_rows_are_repeated_in_training_alone(data: Path, tiny_encoder: Path) -> None:
    found = build(everything(mix={"corpus": MixSettings(repeat=3)}), data, tiny_encoder)
    assert set(Counter(found.rows["train"]).values()) == {3}
    assert set(Counter(found.rows["dev"] + found.rows["test"]).values()) == {1}


def test_only_the_languages_asked_for_are_trained_and_all_are_tested(data: Path, tiny_encoder: Path) -> None:
    found = build(everything(texts={"languages": ("en", "sw"), "safe": 2, "language": 2}), data, tiny_encoder)
    assert {row.language for row in found.rows["train"]} == {"en", "sw"}
    assert {row.language for row in found.rows["test"]} == {"en", "sw", "fr", "de"}
    assert {row.language for row in found.rows["language"]} == {"en", "sw", "th"}


def test_running_text_is_dealt_out_without_overlap(data: Path, tiny_encoder: Path) -> None:
    texts = {"languages": (), "safe": 5, "language": 6, "calibrate": 7, "test": 8}
    found = build(everything(texts=texts), data, tiny_encoder)
    benign = [row for row in found.rows["train"] if row.source == "monolingual"]
    assert [len(benign), *(len(found.rows[name]) for name in ("language", "benign-calibrate", "benign-test"))] == [
        3 * 5,
        3 * 6,
        3 * 7,
        3 * 8,
    ]
    parts = [benign, *(found.rows[name] for name in ("language", "benign-calibrate", "benign-test"))]
    assert len({row.text for part in parts for row in part}) == 3 * 26
    assert {row.label for row in found.rows["language"]} == {""}
    assert {row.label for part in (benign, *parts[2:]) for row in part} == {"safe"}


def test_a_text_of_a_fold_is_dropped_from_fetched_sets_however_it_is_written(data: Path, tiny_encoder: Path) -> None:
    wide = str.maketrans({chr(code): chr(code + 0xFEE0) for code in range(0x21, 0x7F)})
    texts = [text.translate(wide) for pair in corpus_texts() for text in pair]
    write_safety_set(data, "demo", [{"text": text, "label": "safe"} for text in texts])
    found = build(everything(mix={"corpus": MixSettings(), "demo": MixSettings()}), data, tiny_encoder)
    kept = {normalise(row.text).text for row in found.rows["train"] if row.source == "demo"}
    assert kept == {row.text for row in found.rows["train"] if row.source == "corpus"}
    assert 0 < len(kept) < len(texts)


def test_a_held_sentence_is_no_running_text(data: Path, tiny_encoder: Path) -> None:
    lines = [(text,) for pair in corpus_texts() for text in pair]
    write_tsv(data / "multilingual/monolingual/en.txt.xz", lines)
    texts = {"languages": (), "safe": 999, "language": 0, "calibrate": 0, "test": 0}
    found = build(everything(mix={"corpus": MixSettings()}, texts=texts), data, tiny_encoder)
    assert found.texts("train").isdisjoint(found.texts("dev", "test"))
    assert 0 < sum(row.language == "en" and row.source == "monolingual" for row in found.rows["train"]) < len(lines)


def test_categories_that_our_policy_does_not_call_unsafe_are_left_out(data: Path, tiny_encoder: Path) -> None:
    items = [
        {"text": f"{label} {name}", "label": label, "category": name} for label in ("safe", "unsafe") for name in "abc"
    ]
    write_safety_set(data, "demo", items)
    write_safety_set(data, "other", items)
    mix = {"demo": MixSettings(skip_categories=("a",)), "other": MixSettings(unsafe_categories=("a",))}
    found = build(everything(mix=mix), data, tiny_encoder)
    texts = {name: [row.text for row in found.rows["train"] if row.source == name] for name in mix}
    safe = ["safe a", "safe b", "safe c"]
    assert texts == {"demo": [*safe, "unsafe b", "unsafe c"], "other": [*safe, "unsafe a"]}


def test_switched_lines_keep_their_label_and_mix_in_words_of_the_dictionary(data: Path, tiny_encoder: Path) -> None:
    made = everything(mix={"corpus": MixSettings(repeat=2)}, texts={"languages": (), "switched": 2})
    found = build(made, data, tiny_encoder)
    switched = [row for row in found.rows["train"] if row.source == "switched"]
    originals = {row.text: row for row in found.rows["train"] if row.source == "corpus"}
    assert len(switched) == 2 * len(originals)
    back = {"bomu": "bomb", "keki": "cake", "mimi": "I", "Bombe": "bomb", "Kuchen": "cake"}
    changed = 0
    for row in switched:
        words = [back.get(word, word) for word in row.text.split()]
        original = originals[" ".join(words)]
        assert (row.key, row.label, row.category, row.language) == (original.key, original.label, original.category, "")
        changed += row.text != original.text
    assert changed > len(switched) / 3
    assert {row.label for row in switched} == {"safe", "unsafe"}


def test_no_line_of_a_fold_is_switched(data: Path, tiny_encoder: Path) -> None:
    found = build(everything(texts={"languages": (), "switched": 2}), data, tiny_encoder)
    switched = {row.key for row in found.rows["train"] if row.source == "switched"}
    assert switched == {row.key for row in found.rows["train"] if row.source == "corpus"}
    assert switched.isdisjoint(found.keys("dev", "test"))


def test_switching_without_a_dictionary_says_so(tmp_path: Path, tiny_encoder: Path) -> None:
    folder = write_data(tmp_path / "data")
    with pytest.raises(RecipeError, match=r"no dictionaries in .*; set switched = 0"):
        build(everything(texts={"languages": (), "switched": 1}), folder, tiny_encoder)


def test_a_source_that_is_not_there_is_named(data: Path, tiny_encoder: Path) -> None:
    with pytest.raises(RecipeError, match=r"nothing\.jsonl\.xz"):
        build(everything(mix={"nothing": MixSettings()}), data, tiny_encoder)


def test_the_tokenizer_has_the_pieces_that_were_chosen(data: Path, tiny_encoder: Path) -> None:
    found = build(recipe(mix={"corpus": MixSettings()}), data, tiny_encoder)
    pieces = np.load(found.folder / "pieces.npy")
    assert len(pieces) == 900
    ids = Tokenizer(found.folder / "tokenizer.model").encode("How do I bake cake number 1?").ids
    assert ids.max() < 900


def test_shares_are_spread_evenly() -> None:
    places = [share(f"pair/a{number}") for number in range(2000)]
    assert min(places) >= 0 and max(places) < 1
    assert np.histogram(places, bins=4, range=(0, 1))[0] / 2000 == pytest.approx(0.25, abs=0.03)
