"""Score labelled texts and keep what was predicted, so that metrics can be made again without the model."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crest.bundle import CARD, Manifest
from crest.errors import InputError
from crest.languages import canonical
from crest.types import Example, Verdict

CHUNK = 4096


class Judge(Protocol):
    """What is measured: a `Guard`, or anything that answers like one."""

    @property
    def manifest(self) -> Manifest:
        """What the model says about itself."""
        ...

    def check(self, texts: Sequence[str]) -> list[Verdict]:
        """Judge texts."""
        ...

    def check_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """Judge responses to prompts."""
        ...


@dataclass(frozen=True, slots=True)
class Scored:
    """n examples with what was predicted for them, as columns.

    Attributes:
        key: Rows with the same key are right or wrong together.
        language: Language of each text.
        source: Data set of each text.
        unsafe: True label.
        score: Predicted score.
        flagged: True if the score reached the threshold of the language that was found.
        found: Language that was found.
    """

    key: NDArray[Any]
    language: NDArray[Any]
    source: NDArray[Any]
    unsafe: NDArray[np.bool_]
    score: NDArray[np.float64]
    flagged: NDArray[np.bool_]
    found: NDArray[Any]

    def __len__(self) -> int:
        return len(self.score)

    def where(self, mask: NDArray[np.bool_]) -> Scored:
        """Return the rows of a mask."""
        return Scored(*(getattr(self, each.name)[mask] for each in fields(self)))

    def languages(self) -> list[str]:
        """Return the languages of the texts, sorted."""
        return sorted(set(self.language.tolist()))


class Scorer:
    """Scores sets of examples with one model; what a folder already holds is not scored again.

    Args:
        judge: The model.
        folder: Keeps the predictions, one file a set; None keeps none.
        progress: Is told how far it is.
    """

    def __init__(
        self, judge: Judge, *, folder: Path | None = None, progress: Callable[[str], object] = lambda _message: None
    ) -> None:
        """Remember the model; nothing is scored yet."""
        self._judge = judge
        self._folder = folder
        self._progress = progress

    def score(self, name: str, examples: Sequence[Example]) -> Scored:
        """Score a set, or load its predictions if this model made them for these texts.

        Raises:
            InputError: If there are no examples, or the file of predictions is damaged.
        """
        if not examples:
            raise InputError(f"{name} holds no examples; there is nothing to score")
        path = self._folder / f"{name}.npz" if self._folder else None
        identity = _identity(self._judge.manifest, examples)
        columns = _load(path, identity) if path else None
        if columns is None:
            columns = self._predict(name, examples)
            if path:
                _save(path, identity, columns)
        return Scored(
            key=np.array([each.id for each in examples], dtype=object),
            language=np.array([each.language for each in examples]),
            source=np.array([each.source for each in examples]),
            unsafe=np.array([each.label == "unsafe" for each in examples]),
            **columns,
        )

    def _predict(self, name: str, examples: Sequence[Example]) -> dict[str, NDArray[Any]]:
        verdicts: list[Verdict] = []
        for begin in range(0, len(examples), CHUNK):
            verdicts += self._check(examples[begin : begin + CHUNK])
            self._progress(f"{name}: {len(verdicts)} of {len(examples)} texts")
        return {
            "score": np.array([each.score for each in verdicts]),
            "flagged": np.array([each.flagged for each in verdicts]),
            "found": np.array([each.language for each in verdicts]),
        }

    def _check(self, examples: Sequence[Example]) -> Iterator[Verdict]:
        """Judge replies in the context of their prompts, other texts alone; keep the order."""
        texts = iter(self._judge.check([each.text for each in examples if each.context is None]))
        pairs = [(each.context, each.text) for each in examples if each.context is not None]
        replies = iter(self._judge.check_pairs(pairs) if pairs else ())
        return (next(texts if each.context is None else replies) for each in examples)


def fingerprint(manifest: Manifest) -> str:
    """Return a hash of all files of a model that a score depends on."""
    files = {name: record.sha256 for name, record in manifest.files.items() if name != CARD}
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def read_assembled(path: Path, *, limit: int = 0) -> list[Example]:
    """Read rows that the pipeline assembled.

    Args:
        path: A file of JSON lines.
        limit: Most rows of a language; 0 for all.

    Raises:
        InputError: If the file cannot be read or a row is malformed.
    """
    seen: Counter[str] = Counter()
    examples = []
    for example in _examples(path, _assembled):
        seen[example.language] += 1
        if not limit or seen[example.language] <= limit:
            examples.append(example)
    return examples


def read_bench(path: Path, *, limit: int = 0) -> list[Example]:
    """Read a fetched benchmark. A reply keeps its prompt as context; the context of a prompt is left out.

    Args:
        path: A `.jsonl.xz` file.
        limit: Most rows of a language and label, chosen by the hash of their text; 0 for all.

    Raises:
        InputError: If the file cannot be read or a row is malformed.
    """
    examples = list(_examples(path, _bench))
    return _limited(examples, limit) if limit else examples


def _assembled(row: Mapping[str, Any]) -> Example:
    return Example(
        id=row["key"],
        text=row["text"],
        label=row["label"],
        language=row["language"],
        category=row["category"] or None,
        context=row["context"] or None,
        source=row["source"],
    )


def _bench(row: Mapping[str, Any]) -> Example:
    context = row.get("context") if row["unit"] == "response" else None
    return Example(
        id=context or row["id"].removeprefix(f"{row['lang']}-"),
        text=row["text"],
        label=row["label"],
        language=canonical(row["lang"]),
        category=None,
        context=context,
        source=f"{row['dataset']}/{row['unit']}",
    )


def _limited(examples: Iterable[Example], limit: int) -> list[Example]:
    seen: Counter[tuple[str, str, str]] = Counter()
    kept = []
    for example in sorted(examples, key=lambda each: hashlib.blake2b(f"{each.label} {each.text}".encode()).digest()):
        group = (example.source, example.language, example.label)
        seen[group] += 1
        if seen[group] <= limit:
            kept.append(example)
    return kept


def _examples(path: Path, build: Callable[[Mapping[str, Any]], Example]) -> Iterator[Example]:
    """Read JSON lines, compressed or not.

    Raises:
        InputError: If the file cannot be read or a row is malformed.
    """
    opened = lzma.open if path.suffix == ".xz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield build(json.loads(line))
    except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, lzma.LZMAError) as error:
        raise InputError(f"{path} does not hold labelled rows: {error!r}; is the folder right?") from error


def _identity(manifest: Manifest, examples: Iterable[Example]) -> str:
    digest = hashlib.sha256(fingerprint(manifest).encode())
    for each in examples:
        digest.update(json.dumps([each.text, each.context]).encode())
    return digest.hexdigest()


def _load(path: Path, identity: str) -> dict[str, NDArray[Any]] | None:
    """Return saved predictions, or None if there are none of this model for these texts."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            if str(file["identity"]) != identity:
                return None
            return {name: file[name] for name in ("score", "flagged", "found")}
    except (OSError, ValueError, LookupError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} holds no predictions ({error!r}); delete it") from error


def _save(path: Path, identity: str, columns: dict[str, NDArray[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("wb") as file:
        np.savez_compressed(file, identity=np.array(identity), **columns)  # type: ignore[arg-type]  # see numpy 2.1's stub
    partial.replace(path)
