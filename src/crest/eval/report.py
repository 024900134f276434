"""Write results as Markdown tables, and put them between the markers of a page."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from crest.bundle import CARD, MANIFEST, open_bundle, write_manifest
from crest.errors import CrestError, InputError
from crest.eval.evaluate import FORMAT, groups
from crest.languages import get

BEGIN, END = "<!-- results:start -->", "<!-- results:end -->"
NONE = "-"
NOTE = (
    "In brackets: 95 % intervals; those of means and AUCs are bootstrapped over the lines, a line together with its "
    "translations and its twin. Means are over languages."
)

GROUPS = {
    "sources": "the paper's 13 source languages",
    "others": "other languages of XLM-R's 100",
    "ood": "the paper's 11 low-resource languages",
    "romanised": "romanised varieties",
    "bonus": "languages beyond XLM-R's 100",
}
SETS = (
    ("corpus", "English corpus", "en"),
    ("dialogues", "replies in context, English", "en"),
    ("translated", "corpus in languages held out of its translations", "held_out"),
)
COLUMNS = {
    "auc": "AUC",
    "recall": "recall, %",
    "fpr_safe": "false positives on harmless twins, %",
    "fpr_benign": "false positives on everyday text, %",
}
AT_FPR = {
    "recall_at_fpr1": "recall at 1 % false positives, %",
    "recall_at_fpr5": "recall at 5 % false positives, %",
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def language_table(results: Mapping[str, Any]) -> str:
    """Return one row a language, in the order of their names."""
    measured = results["held_out"]["languages"]
    rows = [
        [get(code).name, f"`{code}`", *(_cell(measured[code], name) for name in COLUMNS)]
        for code in sorted(measured, key=lambda code: get(code).name)
    ]
    return _table(["language", "code", *COLUMNS.values()], rows)


def summary_table(models: Sequence[Mapping[str, Any]]) -> str:
    """Return one row a group of texts and model: models side by side, in the order given.

    Args:
        models: Results of one or more models.
    """
    rows = []
    for group, name in GROUPS.items():
        rows += _group_rows(f"seeds: {name}", [each["held_out"]["groups"][group] for each in models], models)
    for source, name, part in SETS:
        found = [each["held_out"].get(source, {}) for each in models]
        if all(found):
            rows += _group_rows(name, [_part(each, part) for each in found], models)
    return _table(["texts", "languages", "model", *COLUMNS.values(), *AT_FPR.values()], rows)


def bench_table(models: Sequence[Mapping[str, Any]]) -> str:
    """Return one row a benchmark and model; only sets that all models were measured on."""
    rows = []
    for name in models[0]["bench"]:
        if not all(name in each["bench"] for each in models):
            continue
        found = models[0]["bench"][name]
        title = f"{name} ({found['unsafe']} unsafe, {found['safe']} safe)"
        rows += _group_rows(title, [each["bench"][name]["mean"] for each in models], models)
    columns = {**COLUMNS, "fpr_safe": "false positives on its safe texts, %", **AT_FPR}
    return _table(["set", "languages", "model", *columns.values()], rows) if rows else ""


def extremes(results: Mapping[str, Any]) -> str:
    """Return the sentences that a mean hides: the worst languages, and language identification."""
    held_out = results["held_out"]
    xlmr = [code for name in ("sources", "others") for code in groups()[name]]
    aucs = {
        code: each["auc"]["value"] for code, each in held_out["languages"].items() if "auc" in each and code in xlmr
    }
    rates = {code: each["value"] for code, each in held_out["benign"]["languages"].items()}
    lines = []
    if aucs:
        lowest = min(aucs, key=aucs.__getitem__)
        lines.append(f"Lowest AUC among XLM-R's languages: {aucs[lowest]:.3f} ({get(lowest).name}).")
    highest = max(rates, key=rates.__getitem__)
    lines.append(
        f"Everyday text flagged, mean of {len(rates)} languages: {100 * held_out['benign']['mean']:.1f} %; "
        f"highest: {100 * rates[highest]:.1f} % ({get(highest).name})."
    )
    identified = held_out["language_identification"]
    count = len(identified["languages"])
    line = f"Language found: {100 * identified['mean']:.1f} % of sentences, mean of {count} languages"
    if "lingua" in results:
        both = results["lingua"]
        line += (
            f"; on the {len(both['lingua']['languages'])} that the library lingua knows too, "
            f"{100 * both['crest']['mean']:.1f} % beside lingua's {100 * both['lingua']['mean']:.1f} %"
        )
    return "\n".join([*lines, f"{line}."])


def block(models: Sequence[Mapping[str, Any]]) -> str:
    """Return everything that stands between the markers: summary, benchmarks, and the first model's languages.

    Raises:
        InputError: If the models were measured on unequal texts.
    """
    first = models[0]
    for other in models[1:]:
        for name in ("inputs", "settings"):
            if first[name] != other[name]:
                raise InputError(
                    f"the models differ in {name}; measure both on the same texts to put them side by side"
                )
    settings = first["settings"]
    parts = [
        f"Model {first['model']['name']} {first['model']['revision']}. {NOTE}",
        summary_table(models),
        extremes(first),
    ]
    if settings["benign_limit"] or settings["bench_limit"]:
        parts.append("Interim: measured on a part of the benign sentences or of the benchmarks.")
    if benches := bench_table(models):
        parts += ["Public benchmarks, none of which was trained on:", benches]
    parts += ["Seed lines of every language, not trained on in any language:", language_table(first)]
    return "\n\n".join(parts)


def headline(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return the few numbers that a manifest carries."""
    held_out = results["held_out"]
    return {
        "seeds": {
            group: {name: each["value"] for name, each in found.items() if name != "languages"}
            for group, found in held_out["groups"].items()
        },
        "benign_fpr": held_out["benign"]["mean"],
        "language_identification": held_out["language_identification"]["mean"],
    }


def replace_block(page: str, content: str) -> str:
    """Return a page with what stands between its markers replaced.

    Raises:
        InputError: If the page does not have both markers, once each and in order.
    """
    before, begin, rest = page.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise InputError(f"the page needs one {BEGIN} and, below it, one {END}; the results go between them")
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


def write_page(path: Path, content: str) -> None:
    """Put results into a page; if it is the card of a bundle, hash the bundle's files again.

    Raises:
        InputError: If the page cannot be read or lacks the markers.
        BundleError: If the bundle is damaged.
    """
    bundle = open_bundle(path.parent) if path.name == CARD and (path.parent / MANIFEST).is_file() else None
    path.write_text(replace_block(_read(path), content), encoding="utf-8")
    if bundle:
        write_manifest(path.parent, bundle.manifest)


def read_results(path: Path) -> dict[str, Any]:
    """Read what `python -m crest.eval` wrote.

    Raises:
        InputError: If the file cannot be read or has another format.
    """
    try:
        results = json.loads(_read(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(results, dict) or results.get("format") != FORMAT:
        raise InputError(f"{path} does not hold results of format {FORMAT}; make them with python -m crest.eval")
    return results


@app.command()
def run(
    results: Annotated[list[Path], typer.Argument(help="Results; the first model is the one that the page is about.")],
    readme: Annotated[list[Path] | None, typer.Option(help="Page to put the tables in; may be repeated.")] = None,
) -> None:
    """Print the tables of one or more models, or put them into pages."""
    content = block([read_results(path) for path in results])
    for page in readme or ():
        write_page(page, content)
    if not readme:
        sys.stdout.write(content + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; an error of crest becomes one line on standard error."""
    try:
        app(args=arguments, prog_name="python -m crest.eval.report")
    except CrestError as error:
        sys.stderr.write(f"crest: error: {error}\n")
        sys.exit(error.exit_code)


def _part(found: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    """Return the measures of a mean or of a language."""
    chosen: Mapping[str, Any] = found[part] if part in found else found["languages"].get(part, {})
    return chosen


def _group_rows(title: str, found: Sequence[Mapping[str, Any]], models: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return a row for each model; none if no model was measured on the group."""
    if not any(found):
        return []
    names = [*COLUMNS, *AT_FPR]
    return [
        [
            title if place == 0 else "",
            str(len(each["languages"])) if "languages" in each else "1",
            model["model"]["name"],
            *(_cell(each, name) for name in names),
        ]
        for place, (each, model) in enumerate(zip(found, models, strict=True))
    ]


def _cell(found: Mapping[str, Any], name: str) -> str:
    """Return `.912 (.85-.96)`, or per cent with one decimal; `-` for what could not be measured."""
    if name not in found:
        return NONE
    numbers = [found[name][each] for each in ("value", "low", "high")]
    if name == "auc":
        value, low, high = (f"{each:.3f}".removeprefix("0") for each in numbers)
    else:
        value, low, high = (f"{100 * each:.1f}".removesuffix(".0") for each in numbers)
    return f"{value} ({low}-{high})"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


if __name__ == "__main__":
    main()
