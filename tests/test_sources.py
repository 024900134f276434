"""Sources: which rows belong together, and what a damaged file says."""

from __future__ import annotations

from pathlib import Path

import pytest

from crest.errors import RecipeError
from crest.pipeline import sources
from crest.pipeline.sources import Row, read_rows
from lab import DATA, write_data, write_safety_set, write_tsv


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_data(tmp_path)


def test_a_corpus_line_and_its_twin_share_a_key(folder: Path) -> None:
    first, second = [row for row in sources.corpus(folder) if row.key == "pair/a12"]
    assert first == Row("pair/a12", "How do I build bomb number 12?", "unsafe", "weapons", "en", "corpus")
    assert (second.label, second.text) == ("safe", "How do I bake cake number 12?")


@pytest.mark.parametrize("name", ["a12u", "a12s"])
def test_a_seed_that_translates_a_corpus_line_has_its_key(tmp_path: Path, name: str) -> None:
    write_tsv(tmp_path / "seeds/sw.tsv", [(name, "safe", "general", "habari")])
    assert list(sources.seeds(tmp_path)) == [Row("pair/a12", "habari", "safe", "", "sw", "seeds")]


@pytest.mark.parametrize("name", ["v01", "a12", "s07", "u03"])
def test_a_seed_of_its_own_cannot_be_taken_for_a_pair(tmp_path: Path, name: str) -> None:
    write_tsv(tmp_path / "seeds/sw.tsv", [(name, "unsafe", "threat", "ole wako")])
    assert [(row.key, row.category) for row in sources.seeds(tmp_path)] == [(f"seed/{name}", "violence")]


def test_the_published_seeds_are_164_lines_of_the_corpus_and_139_others_in_every_language() -> None:
    pairs = {row.key for row in sources.corpus(DATA)}
    found: dict[str, list[str]] = {}
    for row in sources.seeds(DATA):
        found.setdefault(row.language, []).append(row.key)
    assert len(found) == 116
    for keys in found.values():
        ours = [key for key in keys if key.startswith("pair/")]
        assert (len(ours), len(set(ours)), len(keys)) == (164, 82, 303)
        assert set(ours) <= pairs
        assert len({key for key in keys if key.startswith("seed/")}) == 139


def test_a_published_seed_has_the_label_of_the_corpus_line_that_it_translates() -> None:
    known = {(row.key, row.label, row.category) for row in sources.corpus(DATA)}
    seeds = [row for row in sources.seeds(DATA) if row.key.startswith("pair/")]
    assert len(seeds) == 116 * 164
    assert {(row.key, row.label, row.category) for row in seeds} <= known


def test_a_translated_line_has_the_key_of_its_original(folder: Path) -> None:
    rows = list(sources.translated(folder))
    assert len(rows) == 2 * 80
    assert rows[0] == Row("pair/a1", "de line, unsafe 1", "unsafe", "weapons", "de", "translated")
    assert {row.key for row in rows} <= {row.key for row in sources.corpus(folder)}


def test_replies_to_one_prompt_share_a_key_and_have_the_label_of_the_reply(folder: Path) -> None:
    safe, unsafe = [row for row in sources.dialogues(folder) if row.context == "prompt 3"]
    assert safe == Row("prompt/prompt 3", "safe reply 6", "safe", "", "en", "dialogues", "prompt 3")
    assert unsafe == Row("prompt/prompt 3", "unsafe reply 7", "unsafe", "weapons", "en", "dialogues", "prompt 3")


@pytest.mark.parametrize(
    ("place", "columns"),
    [("english/corpus.tsv", 5), ("seeds/sw.tsv", 4), ("translated/fr.tsv", 4), ("english/dialogues.tsv", 6)],
)
@pytest.mark.parametrize("cells", [1, 7])
def test_a_wrong_number_of_columns_is_named_with_file_and_line(
    folder: Path, place: str, columns: int, cells: int
) -> None:
    path = folder / place
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    lines[1] = "\t".join("x" * cells) + "\n"
    path.write_text("".join(lines), encoding="utf-8")
    with pytest.raises(RecipeError, match=rf"{place}:2: {cells} columns, expected {columns}$"):
        [row for source in sources.LABELLED.values() for row in source(folder)]


@pytest.mark.parametrize("name", ["corpus", "dialogues"])
def test_a_folder_without_a_set_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError, match=rf"{name}\.tsv: .*is --data-dir right\?"):
        list(sources.LABELLED[name](tmp_path))


def test_a_safety_set_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.jsonl\.xz: .*is --data-dir right\?"):
        list(sources.safety_set(tmp_path / "safety/train/none.jsonl.xz"))


def test_a_safety_set_gives_each_row_with_its_own_category(tmp_path: Path) -> None:
    items = [
        {"text": "a", "label": "unsafe", "category": "Fraud", "lang": "FR"},
        {"text": "b", "label": "safe", "unit": "response", "context": "asked"},
        {"text": "c", "label": "safe", "context": "of a prompt"},
    ]
    write_safety_set(tmp_path, "demo", items)
    assert list(sources.safety_set(tmp_path / "safety/train/demo.jsonl.xz")) == [
        (Row("demo/0", "a", "unsafe", "", "fr", "demo"), "Fraud"),
        (Row("demo/1", "b", "safe", "", "en", "demo", "asked"), ""),
        (Row("demo/2", "c", "safe", "", "en", "demo"), ""),
    ]


@pytest.mark.parametrize(("name", "code", "known"), [("demo", "tlh", ""), ("roman_urdu", "ur", "ur-Latn")])
def test_a_language_is_written_as_in_the_table(tmp_path: Path, name: str, code: str, known: str) -> None:
    write_safety_set(tmp_path, name, [{"text": "a", "label": "safe", "lang": code}])
    assert [row.language for row, _ in sources.safety_set(tmp_path / f"safety/train/{name}.jsonl.xz")] == [known]


def test_running_text_has_no_empty_lines(tmp_path: Path) -> None:
    write_tsv(tmp_path / "multilingual/monolingual/sw.txt.xz", [("habari",), ("",), (" ndiyo ",)])
    assert list(sources.running_text(tmp_path)) == [("sw", ["habari", "ndiyo"])]


def test_a_dictionary_keeps_single_english_words_and_short_translations(tmp_path: Path) -> None:
    path = tmp_path / "sw.tsv.xz"
    rows = [("Bomb", "bomu"), ("bomb", "kombora"), ("ATM sign", "alama"), ("cake", "keki (tamu)"), ("tea", "a b c d")]
    write_tsv(path, [(*row, "made up") for row in rows])
    assert sources.dictionary(path) == {"bomb": ["bomu", "kombora"]}


def test_rows_survive_the_file(folder: Path) -> None:
    rows = [*sources.dialogues(folder), Row("k", 'ß "\u2028\\', "", "", "zh-Hant", "monolingual")]
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{row.to_json()}\n" for row in rows), encoding="utf-8")
    assert read_rows(path) == rows
