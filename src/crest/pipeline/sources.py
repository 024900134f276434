"""Read the labelled and the plain text that models are trained on, from a data folder.

The folder's layout is that of `data/`: `english/`, `seeds/`, `translated/`; fetched sets add `safety/` and
`multilingual/`.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from crest.errors import InputError, RecipeError
from crest.languages import canonical
from crest.taxonomy import from_corpus


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled text.

    Attributes:
        key: Rows with the same key stay on one side of a split: translations of one line, twins, replies to one prompt.
        text: The text.
        label: "safe", "unsafe", or "" where only the language is known.
        category: One of the 14, "" for none or unknown.
        language: BCP-47 code, "" where it is mixed or unknown.
        source: The data set.
        context: The prompt that the text answers, "" for none.
    """

    key: str
    text: str
    label: str
    category: str
    language: str
    source: str
    context: str = ""

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)


def read_rows(path: Path) -> list[Row]:
    """Read rows that `Row.to_json` wrote, one a line."""
    with path.open(encoding="utf-8") as lines:
        return [Row(**json.loads(line)) for line in lines]


def corpus(folder: Path) -> Iterator[Row]:
    """Yield the English corpus."""
    for pair, label, category, _form, text in _tsv(folder / "english/corpus.tsv", 5):
        yield Row(f"pair/{pair}", text, label, from_corpus(category) or "", "en", "corpus")


def seeds(folder: Path) -> Iterator[Row]:
    """Yield the seed lines of all languages. Those whose id ends in u or s are lines of the corpus, translated."""
    for path in sorted((folder / "seeds").glob("*.tsv")):
        for name, label, category, text in _tsv(path, 4):
            key = f"pair/{name[:-1]}" if name[-1] in "us" else f"seed/{name}"
            yield Row(key, text, label, from_corpus(category) or "", path.stem, "seeds")


def translated(folder: Path) -> Iterator[Row]:
    """Yield lines of the corpus in other languages."""
    for path in sorted((folder / "translated").glob("*.tsv")):
        for pair, label, category, text in _tsv(path, 4):
            yield Row(f"pair/{pair}", text, label, from_corpus(category) or "", path.stem, "translated")


def dialogues(folder: Path) -> Iterator[Row]:
    """Yield replies with the prompt they answer; the label is the reply's. Rows with the same prompt share a key."""
    for _name, _prompt_label, label, category, prompt, response in _tsv(folder / "english/dialogues.tsv", 6):
        known = (from_corpus(category) or "") if label == "unsafe" else ""
        yield Row(f"prompt/{prompt}", response, label, known, "en", "dialogues", prompt)


def safety_set(path: Path) -> Iterator[tuple[Row, str]]:
    """Yield the rows of a fetched safety set, each with the set's own category.

    Raises:
        RecipeError: If there is no such set.
    """
    if not path.is_file():
        raise RecipeError(f"cannot read {path}: there is no such file; is --data-dir right?")
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            item = json.loads(line)
            name = f"{item['dataset']}/{item['id']}"
            language = "ur-Latn" if item["dataset"] == "roman_urdu" else _known(item["lang"])
            row = Row(name, item["text"], item["label"], "", language, item["dataset"], _context(item))
            yield row, item.get("category") or ""


def running_text(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each language with its benign sentences."""
    for path in sorted((folder / "multilingual/monolingual").glob("*.txt.xz")):
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            yield path.name.removesuffix(".txt.xz"), [text for line in lines if (text := line.strip())]


def dictionary(path: Path) -> dict[str, list[str]]:
    """Read a dictionary: lower-case English word -> translations of at most three words."""
    words: dict[str, list[str]] = {}
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            english, other, _source = line.rstrip("\n").split("\t")
            if " " not in english and other.count(" ") < 3 and not set(other) & set("()[]/;,"):
                words.setdefault(english.lower(), []).append(other)
    return words


LABELLED: Mapping[str, Callable[[Path], Iterator[Row]]] = {
    "corpus": corpus,
    "seeds": seeds,
    "translated": translated,
    "dialogues": dialogues,
}


def _known(code: str) -> str:
    """Return the canonical code of a language in the table, "" for one that is not in it."""
    try:
        return canonical(code)
    except InputError:
        return ""


def _context(item: Mapping[str, str]) -> str:
    """Return the prompt of a reply; rows that are prompts themselves have none."""
    return item.get("context", "") if item["unit"] == "response" else ""


def _tsv(path: Path, columns: int) -> Iterator[list[str]]:
    try:
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"cannot read {path}: {error}; is --data-dir right?") from error
    for number, line in enumerate(content.removesuffix("\n").split("\n"), start=1):
        cells = line.split("\t")
        if len(cells) != columns:
            raise RecipeError(f"{path}:{number}: {len(cells)} columns, expected {columns}")
        yield cells
