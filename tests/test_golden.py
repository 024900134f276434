"""The shipped model, on one unsafe and one safe line in every language of `data/seeds`.

golden.tsv pins lines that were kept out of training and that the shipped model gets right: it is an alarm against a
broken bundle, tokenizer or engine in any language, not a measure of quality. make_golden.py writes it.
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from crest import Guard

GOLDEN = Path(__file__).with_name("golden.tsv")
SEEDS = Path(__file__).parents[1] / "data" / "seeds"
LANGUAGES = 116


@pytest.fixture(scope="module")
def lines() -> list[dict[str, str]]:
    with GOLDEN.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_every_language_has_one_unsafe_and_one_safe_line(lines: list[dict[str, str]]) -> None:
    codes = {path.stem for path in SEEDS.glob("*.tsv")}
    assert len(codes) == LANGUAGES
    assert Counter((line["language"], line["label"]) for line in lines) == Counter(
        (code, label) for code in codes for label in ("unsafe", "safe")
    )


def test_every_unsafe_line_is_flagged_and_no_safe_one(lines: list[dict[str, str]]) -> None:
    verdicts = Guard.from_pretrained().check([line["text"] for line in lines])
    assert len(verdicts) == 2 * LANGUAGES
    assert [
        (line["language"], line["id"], round(verdict.score, 3))
        for line, verdict in zip(lines, verdicts, strict=True)
        if verdict.flagged != (line["label"] == "unsafe")
    ] == []
