"""A judge that reads its verdict in the text: "sw 0.9 a" is Swahili with the score .9; it flags from .5 on."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from crest.bundle import FileRecord, Manifest
from crest.taxonomy import CATEGORIES
from crest.types import Verdict


class ReadingJudge:
    """Counts the texts that it was asked about; a pair is judged by its prompt."""

    def __init__(self, name: str = "reader", *, sha256: str = "0" * 64) -> None:
        self.asked = 0
        files = {"model.onnx": FileRecord(sha256, 1), "CARD.md": FileRecord("1" * 64, 1)}
        self.manifest = Manifest(name, "7", "Apache-2.0", CATEGORIES, ("en", "sw"), files=files)

    def check(self, texts: Sequence[str]) -> list[Verdict]:
        self.asked += len(texts)
        return [_verdict(*text.split()[:2]) for text in texts]

    def check_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        return self.check([prompt for prompt, _response in pairs])


def _verdict(language: str, score: str) -> Verdict:
    return Verdict(float(score) >= 0.5, float(score), 0.5, (), {}, language, 1.0)


def row(text: str, label: str = "safe", *, language: str = "", **changes: Any) -> dict[str, Any]:
    """A row as the pipeline writes it; its language is the first word unless it is given."""
    good = {"key": text, "text": text, "label": label, "category": "", "language": language or text.partition(" ")[0]}
    return {**good, "source": "seeds", "context": "", **changes}


def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    opened = lzma.open if path.suffix == ".xz" else open
    with opened(path, "wt", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(each)}\n" for each in rows)
    return path


def write_assembled(folder: Path) -> Path:
    """Two languages, of which Swahili is judged worse, and French among the translated lines."""
    labelled = [
        *(row(f"en 0.{digit} u", "unsafe", key=f"u{digit}") for digit in (9, 8, 7, 6)),
        *(row(f"en 0.{digit} s", key=f"u{digit + 5}") for digit in (4, 3, 2, 1)),
        *(row(f"sw 0.{digit} u", "unsafe", key=f"u{digit}") for digit in (9, 8, 4, 3)),
        *(row(f"sw 0.{digit} s", key=f"u{digit + 5}") for digit in (6, 2, 2, 1)),
        row("en 0.9 corpus", "unsafe", source="corpus", category="fraud"),
        row("en 0.2 corpus", source="corpus"),
        row("fr 0.9 t", "unsafe", source="translated"),
        row("fr 0.2 t", source="translated"),
        row("sw 0.9 t", "unsafe", source="translated"),
        row("en 0.0 reply", "unsafe", language="en", source="dialogues", context="en 0.8 prompt"),
        row("en 0.9 reply", source="dialogues", context="en 0.1 prompt"),
    ]
    benign = [row(f"en 0.{digit}5 b", source="monolingual") for digit in range(10)]
    benign += [
        row(f"{'sw' if digit else 'en'} 0.0{digit} b", language="sw", source="monolingual") for digit in range(10)
    ]
    write(folder / "test.jsonl", labelled)
    write(folder / "benign-test.jsonl", benign)
    return folder


def write_benches(folder: Path) -> Path:
    """Three sets: unsafe in two languages, mixed, and replies beside prompts."""

    def item(text: str, label: str, *, name: str, unit: str = "prompt", **more: str) -> dict[str, str]:
        return {"text": text, "lang": text[:2], "label": label, "unit": unit, "dataset": name, "id": text, **more}

    sets = {
        "attacks": [item("en 0.9", "unsafe", name="attacks"), item("sw 0.3", "unsafe", name="attacks")],
        "mixed": [item("en 0.9", "unsafe", name="mixed"), item("en 0.2", "safe", name="mixed", context="en 0.7")],
        "replies": [
            item("en 0.1", "unsafe", name="replies", unit="response", context="en 0.6 prompt"),
            item("en 0.3", "unsafe", name="replies"),
        ],
    }
    for name, rows in sets.items():
        write(folder / f"safety/bench/{name}.jsonl.xz", rows)
    return folder
