"""The texts that are measured: real sentences in many languages, as they are or cut to a number of tokens."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crest.encode import BOS_ID, EOS_ID, Tokenizer, normalise

SEEDS = Path(__file__).parent.parent / "data" / "seeds"


@dataclass(frozen=True, slots=True)
class Text:
    """A text beside its tokens.

    Attributes:
        text: What a guard is given.
        ids: Its token ids with the special tokens, for rivals that are spared their own tokenizer.
    """

    text: str
    ids: list[int]


def read_seeds(*, rng: random.Random, folder: Path = SEEDS) -> dict[str, list[str]]:
    """Read the seed sentences of every language, each list shuffled."""
    seeds = {}
    for path in sorted(folder.glob("*.tsv")):
        with path.open(encoding="utf-8", newline="") as file:
            lines = [row[3] for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
        rng.shuffle(lines)
        seeds[path.stem] = lines
    return seeds


def mixed(seeds: dict[str, list[str]], *, tokenizer: Tokenizer, count: int) -> list[Text]:
    """Take sentences as they are, one language after the other."""
    columns = max(map(len, seeds.values()))
    rows = [lines[column] for column in range(columns) for lines in seeds.values() if column < len(lines)]
    return [_text(row, tokenizer) for row in rows[:count]]


def cut(seeds: dict[str, list[str]], *, tokenizer: Tokenizer, tokens: int, count: int) -> list[Text]:
    """Make texts of exactly so many tokens, special ones included, from whole sentences and the beginning of the last.

    Raises:
        ValueError: If too few can be made.
    """
    texts: list[Text] = []
    for first in range(min(map(len, seeds.values()))):
        for lines in seeds.values():
            text = _cut(lines[first:] + lines[:first], tokenizer, tokens - 2)
            if text is not None:
                texts.append(text)
            if len(texts) == count:
                return texts
    raise ValueError(f"only {len(texts)} of {count} texts of {tokens} tokens could be made")


def _cut(lines: Sequence[str], tokenizer: Tokenizer, tokens: int) -> Text | None:
    """Return the first so many tokens of joined lines, or None if that text has other tokens when read alone."""
    joined = ""
    for line in lines:
        joined = normalise(f"{joined} {line}".strip()).text
        starts = tokenizer.encode(joined).starts
        if len(starts) - 1 > tokens:
            text = _text(joined[: starts[tokens]].rstrip(), tokenizer)
            return text if len(text.ids) == tokens + 2 else None
    return None


def _text(text: str, tokenizer: Tokenizer) -> Text:
    return Text(text, [BOS_ID, *tokenizer.encode(normalise(text).text).ids.tolist(), EOS_ID])
