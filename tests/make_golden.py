"""Write golden.tsv: in each language the safest safe and the riskiest unsafe line among seed ids kept out of training.

Run it after a new embedded bundle, with the ids that its training kept aside:

    python tests/make_golden.py v07 v12 a130u a130s ...

The clearest lines are taken, so that engines on other processors, whose rounding differs, agree.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from crest import Guard

SEEDS = Path(__file__).parents[1] / "data" / "seeds"
GOLDEN = Path(__file__).with_name("golden.tsv")


def clearest(guard: Guard, language: str, held_out: set[str]) -> list[tuple[str, str, str, str]]:
    """Return the language's two lines, as (language, id, label, text)."""
    with (SEEDS / f"{language}.tsv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row[0] in held_out]
    chosen = []
    for label, sign in (("unsafe", 1), ("safe", -1)):
        lines = [(row[0], row[3]) for row in rows if row[1] == label]
        verdicts = guard.check([text for _, text in lines])
        margins = [sign * (verdict.score - verdict.threshold) for verdict in verdicts]
        best = max(range(len(lines)), key=margins.__getitem__)
        if verdicts[best].flagged != (label == "unsafe"):
            sys.exit(f"{language}: the model gets every {label} line wrong")
        chosen.append((language, lines[best][0], label, lines[best][1]))
    return chosen


def main() -> None:
    """Choose the lines and write them."""
    held_out = set(sys.argv[1:])
    guard = Guard.from_pretrained()
    lines = [line for path in sorted(SEEDS.glob("*.tsv")) for line in clearest(guard, path.stem, held_out)]
    text = "".join("\t".join(line) + "\n" for line in [("language", "id", "label", "text"), *lines])
    GOLDEN.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
