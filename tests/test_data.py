"""The data in the repository are as published, and every row keeps the rules of their card."""

import functools
import hashlib
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from crest import languages, taxonomy
from crest.types import LABELS

DATA = Path(__file__).parents[1] / "data"
Row = tuple[str, ...]

# The first word of the Unicode names of a script's letters, by ISO 15924 code.
SCRIPT_NAMES = dict(
    pair.split("=")
    for pair in (
        "Arab=ARABIC Armn=ARMENIAN Beng=BENGALI Cyrl=CYRILLIC Deva=DEVANAGARI Ethi=ETHIOPIC Geor=GEORGIAN Grek=GREEK "
        "Gujr=GUJARATI Guru=GURMUKHI Hans=CJK Hant=CJK Hebr=HEBREW Jpan=HIRAGANA Khmr=KHMER Knda=KANNADA Kore=HANGUL "
        "Laoo=LAO Latn=LATIN Mlym=MALAYALAM Mymr=MYANMAR Orya=ORIYA Sinh=SINHALA Taml=TAMIL Telu=TELUGU Thai=THAI"
    ).split()
)
CATEGORIES = set(taxonomy.CATEGORIES)


@functools.cache
def _rows(path: Path) -> tuple[Row, ...]:
    lines = path.read_bytes().decode("utf-8").split("\n")
    assert lines.pop() == "", f"{path.name} does not end with a line break"
    return tuple(tuple(line.split("\t")) for line in lines)


def _folder(name: str) -> dict[str, tuple[Row, ...]]:
    return {path.stem: _rows(path) for path in sorted((DATA / name).glob("*.tsv"), key=lambda path: path.stem)}


def _corpus() -> tuple[Row, ...]:
    return _rows(DATA / "english" / "corpus.tsv")


def _dialogues() -> tuple[Row, ...]:
    return _rows(DATA / "english" / "dialogues.tsv")


def _bad_rows(rows: tuple[Row, ...], *, columns: int, words: set[str]) -> list[Row]:
    """Return the rows with a wrong number of fields, an empty or untrimmed one, or an unknown label or category."""
    return [
        row
        for row in rows
        if len(row) != columns
        or any(not field or field != field.strip() or "\r" in field for field in row)
        or row[1] not in LABELS
        or row[2] not in words
    ]


def test_all_148_files_have_their_checksum() -> None:
    sums = dict(line.split("  ")[::-1] for line in (DATA / "SHA256SUMS").read_text(encoding="utf-8").splitlines())
    found = {path.relative_to(DATA).as_posix(): path for path in DATA.rglob("*.tsv")}
    assert len(found) == 148
    assert sorted(sums) == sorted(found)
    assert [name for name, path in found.items() if hashlib.sha256(path.read_bytes()).hexdigest() != sums[name]] == []


def test_the_seeds_are_303_rows_in_each_language_of_the_table() -> None:
    seeds = _folder("seeds")
    assert list(seeds) == [language.code for language in languages.all_languages()]
    assert len(seeds) == 116
    assert {len(rows) for rows in seeds.values()} == {303}


def test_every_seed_row_keeps_the_schema() -> None:
    words = CATEGORIES | {"general", "threat", "animal-cruelty", "response"}
    bad = {code: _bad_rows(rows, columns=4, words=words) for code, rows in _folder("seeds").items()}
    assert len(bad) == 116
    assert [code for code, rows in bad.items() if rows] == []


def test_the_words_beside_the_14_are_counted_in_the_seeds() -> None:
    counts = Counter(row[2] for row in _folder("seeds")["en"])
    beside = {word: count for word, count in counts.items() if word not in CATEGORIES}
    assert beside == {"general": 13, "threat": 6, "response": 6, "animal-cruelty": 5}


def test_ids_labels_and_categories_are_the_same_in_every_seed_language() -> None:
    keys = {code: [row[:3] for row in rows] for code, rows in _folder("seeds").items()}
    assert len(keys) == 116
    assert [code for code, key in keys.items() if key != keys["en"]] == []


def test_seed_ids_are_unique() -> None:
    assert len({row[0] for row in _folder("seeds")["en"]}) == 303


def test_no_text_is_twice_in_a_seed_language() -> None:
    texts = {code: {row[3] for row in rows} for code, rows in _folder("seeds").items()}
    assert len(texts) == 116
    assert [code for code, distinct in texts.items() if len(distinct) != 303] == []


def test_no_seed_is_left_in_english() -> None:
    seeds = _folder("seeds")
    english = {row[3] for row in seeds.pop("en")}
    assert len(seeds) == 115
    assert [code for code, rows in seeds.items() if english & {row[3] for row in rows}] == []


def test_the_only_seeds_that_two_languages_share_are_those_of_the_card() -> None:
    owners: dict[tuple[str, str], set[str]] = {}
    for code, rows in _folder("seeds").items():
        for row in rows:
            owners.setdefault((row[0], row[3]), set()).add(code)
    shared = Counter(tuple(sorted(codes)) for codes in owners.values() if len(codes) > 1)
    assert shared == {("bs", "hr"): 26, ("hi-Latn", "ur-Latn"): 1}


def test_every_seed_language_is_written_in_the_script_of_the_table() -> None:
    wrong = []
    for code, rows in _folder("seeds").items():
        letters = Counter(char for row in rows for char in row[3] if char.isalpha())
        scripts: Counter[str] = Counter()
        for char, count in letters.items():
            scripts[unicodedata.name(char).split()[0]] += count
        if scripts.most_common(1)[0][0] != SCRIPT_NAMES[languages.get(code).script]:
            wrong.append((code, scripts.most_common(2)))
    assert wrong == []


def test_the_second_batch_of_seeds_is_82_pairs_of_the_corpus_word_for_word() -> None:
    corpus = {(row[0], row[1]): (row[2], row[4]) for row in _corpus()}
    second = [row for row in _folder("seeds")["en"] if row[0][-1] in "us"]
    assert len(second) == 164
    assert len({row[0][:-1] for row in second}) == 82
    for row in second:
        assert row[1] == {"u": "unsafe", "s": "safe"}[row[0][-1]]
        assert corpus[row[0][:-1], row[1]] == (row[2], row[3])


def test_the_first_batch_of_seeds_is_no_text_of_the_corpus_though_20_ids_collide() -> None:
    first = [row for row in _folder("seeds")["en"] if row[0][-1] not in "us"]
    assert len(first) == 139
    assert not {row[3] for row in first} & {row[4] for row in _corpus()}
    assert len({row[0] for row in first} & {row[0] for row in _corpus()}) == 20


def test_every_corpus_row_keeps_the_schema() -> None:
    assert len(_corpus()) == 11_645
    assert _bad_rows(_corpus(), columns=5, words=CATEGORIES | {"general"}) == []
    forms = {"question", "imperative", "statement", "post", "roleplay", "response", "long", "typo"}
    assert {row[3] for row in _corpus()} == forms
    assert [row[0] for row in _corpus() if not re.fullmatch(r"[a-i][1-9]\d*", row[0])] == []


def test_every_corpus_pair_is_twins_of_one_category_or_a_single_safe_line() -> None:
    pairs: dict[str, list[Row]] = {}
    for row in _corpus():
        pairs.setdefault(row[0], []).append(row)
    shapes = Counter(tuple(sorted(row[1] for row in rows)) for rows in pairs.values())
    assert shapes == {("safe", "unsafe"): 4_834, ("safe",): 1_977}
    assert [pair for pair, rows in pairs.items() if len({row[2] for row in rows}) > 1] == []


def test_no_corpus_text_is_twice_even_without_case_and_punctuation() -> None:
    assert len({" ".join(re.findall(r"\w+", row[4].casefold())) for row in _corpus()}) == 11_645


def test_everyday_text_is_safe() -> None:
    everyday = [row for row in (*_corpus(), *_folder("seeds")["en"]) if row[2] == "general"]
    assert len(everyday) == 1_764 + 13
    assert {row[1] for row in everyday} == {"safe"}


def test_every_dialogue_row_keeps_the_schema() -> None:
    as_prompts = tuple((row[0], row[1], *row[3:]) for row in _dialogues())
    assert len(as_prompts) == 710
    assert _bad_rows(as_prompts, columns=5, words=CATEGORIES | {"general"}) == []
    assert {row[2] for row in _dialogues()} == set(LABELS)
    assert len({row[0] for row in _dialogues()}) == 710


def test_a_prompt_of_the_dialogues_has_one_label_one_category_and_distinct_replies() -> None:
    groups: dict[str, list[Row]] = {}
    for row in _dialogues():
        groups.setdefault(row[4], []).append(row)
    assert Counter(len(rows) for rows in groups.values()) == {2: 298, 3: 38}
    assert [prompt for prompt, rows in groups.items() if len({(row[1], row[3]) for row in rows}) > 1] == []
    assert [prompt for prompt, rows in groups.items() if len({row[5] for row in rows}) < len(rows)] == []


def test_no_prompt_of_the_dialogues_is_in_the_corpus_or_the_seeds() -> None:
    prompts = {row[4] for row in _dialogues()}
    assert len(prompts) == 336
    assert not prompts & ({row[4] for row in _corpus()} | {row[3] for row in _folder("seeds")["en"]})


def test_every_translated_row_keeps_the_schema() -> None:
    translated = _folder("translated")
    assert len(translated) == 30
    assert sum(map(len, translated.values())) == 8_640
    assert {len(rows) for rows in translated.values()} == {130, 300, 430}
    for rows in translated.values():
        assert _bad_rows(rows, columns=4, words=CATEGORIES | {"general"}) == []
        assert len({row[:2] for row in rows}) == len({row[3] for row in rows}) == len(rows)


def test_every_translated_row_has_the_label_and_category_of_its_corpus_line() -> None:
    corpus = {row[:3] for row in _corpus()}
    translated = _folder("translated")
    assert len(translated) == 30
    assert [code for code, rows in translated.items() if not {row[:3] for row in rows} <= corpus] == []


def test_every_translated_language_is_in_the_table() -> None:
    codes = list(_folder("translated"))
    assert [languages.get(code).code for code in codes] == codes
    assert set(languages.PAPER_SOURCES) - set(codes) == {"en"}


@pytest.mark.parametrize("name", ["README.md", "LICENSE"])
def test_the_data_have_a_card_and_a_licence(name: str) -> None:
    assert "CC0" in (DATA / name).read_text(encoding="utf-8")
