"""The command `crest`: each subcommand reads its input, calls one library function and prints what it returns.

Results go to standard output, everything else to standard error. The exit code is 0, or 3 if a text was flagged and
`--fail-on-flagged` was given, or that of the error (see `errors.py`). Modules that take time to load are imported by
the command that needs them, so that `crest --version` and `--help` answer at once.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from crest import __version__
from crest.errors import EXIT_FLAGGED, CrestError, InputError

if TYPE_CHECKING:
    from crest.catalog import Model
    from crest.types import Verdict

STDIN = "-"
EXCERPT_CHARACTERS = 60
JOINERS = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"  # spelling in Persian, Indic scripts, emoji

app = typer.Typer(
    help="Judge texts in 100 languages as safe or unsafe, offline.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Input(NamedTuple):
    """One text to judge.

    Attributes:
        source: Where it comes from: `argument 1`, `posts.txt`, or `posts.txt:7` for a line.
        text: The text itself.
    """

    source: str
    text: str


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; an error of crest becomes one line on standard error.

    Args:
        arguments: What follows `crest`; the process's own arguments by default.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal that lacks a script shows \u0915 and the like
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app(args=arguments, prog_name="crest")
    except CrestError as error:
        print(f"crest: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(error.exit_code)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"crest {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def check(
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts to check; - reads one from standard input.", show_default=False)
    ] = None,
    file: Annotated[list[Path] | None, typer.Option(help="UTF-8 file to check as one text; may be repeated.")] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Take each line of the files and of - as a text.")] = False,
    prompt: Annotated[str | None, typer.Option(help="Judge the texts as replies to this prompt.")] = None,
    model: Annotated[str | None, typer.Option(help="Bundle folder or hub id instead of the embedded model.")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of a hub model; pin the commit.")] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Flag from this score on, in every language.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the engine; all cores by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per text, without the text.")] = False,
    fail_on_flagged: Annotated[
        bool, typer.Option("--fail-on-flagged", help=f"Exit with {EXIT_FLAGGED} if a text is flagged.")
    ] = False,
) -> None:
    """Judge texts: flagged or safe, with score, categories and language.

    A text that starts with a dash goes after two dashes: crest check -- "-5 degrees".
    """
    inputs = _read_inputs(texts or [], file or [], lines=lines)

    from crest.guard import Guard

    guard = Guard.from_pretrained(model, revision=revision, threshold=threshold, threads=threads)
    if prompt is None:
        verdicts = guard.check([each.text for each in inputs])
    else:
        verdicts = guard.check_pairs([(prompt, each.text) for each in inputs])
    if as_json:
        _print_json(
            {"source": each.source, **verdict.to_dict()} for each, verdict in zip(inputs, verdicts, strict=True)
        )
    else:
        _print_table(
            ["verdict", "score", "language", "categories", "text"],
            [_row(each, verdict) for each, verdict in zip(inputs, verdicts, strict=True)],
        )
    if fail_on_flagged and any(verdict.flagged for verdict in verdicts):
        raise typer.Exit(EXIT_FLAGGED)


@app.command()
def models(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per model.")] = False,
) -> None:
    """List the models that work without a download: the embedded one and those in the hub's cache."""
    from crest.catalog import list_models

    found = list_models()
    if as_json:
        _print_json(_model_dict(each) for each in found)
    else:
        _print_table(["model", "revision", "size", "languages", "name"], [_model_row(each) for each in found])


def _read_inputs(texts: Sequence[str], files: Sequence[Path], *, lines: bool) -> list[Input]:
    """Return the texts in the order of the command line, arguments first.

    Raises:
        InputError: If there is nothing to check, or a file cannot be read as UTF-8.
    """
    inputs: list[Input] = []
    for number, text in enumerate(texts, start=1):
        if text == STDIN:
            inputs += _split(_decode(sys.stdin.buffer.read(), source="standard input"), "standard input", lines=lines)
        else:
            inputs.append(Input(f"argument {number}", text))
    for path in files:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        inputs += _split(_decode(content, source=str(path)), str(path), lines=lines)
    if not inputs:
        raise InputError("nothing to check: give texts, --file, or - for standard input")
    return inputs


def _decode(content: bytes, *, source: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{source} is not UTF-8 (byte {error.start}); convert it first") from error


def _split(text: str, source: str, *, lines: bool) -> list[Input]:
    """Return the whole text, or its lines: those of an editor, so that only a line feed ends one."""
    if not lines:
        return [Input(source, text)]
    ended = text.removesuffix("\n").split("\n") if text else []
    return [Input(f"{source}:{number}", line.removesuffix("\r")) for number, line in enumerate(ended, start=1)]


def _row(each: Input, verdict: Verdict) -> list[str]:
    """Return a verdict as the cells of the table."""
    word = "FLAGGED" if verdict.flagged else "abstained" if verdict.abstained else "safe"
    if verdict.reason is not None:
        word = f"{word} ({verdict.reason})"
    return [word, f"{verdict.score:.3f}", verdict.language, " ".join(verdict.categories) or "-", _excerpt(each.text)]


def _model_dict(each: Model) -> dict[str, Any]:
    """Return a model as a JSON-ready dict."""
    manifest = each.manifest
    return {
        "model": each.model,
        "revision": each.revision,
        "name": manifest and manifest.name,
        "licence": manifest and manifest.licence,
        "bytes": each.bytes,
        "languages": manifest and list(manifest.languages),
        "folder": str(each.folder),
        "problem": each.problem,
    }


def _model_row(each: Model) -> list[str]:
    """Return a model as the cells of the table."""
    start = [each.model or "(embedded)", each.revision or "-"]
    if each.manifest is None or each.bytes is None:
        return [*start, "-", "-", _excerpt(f"unusable: {each.problem}")]
    return [*start, f"{each.bytes / 1e6:.0f} MB", str(len(each.manifest.languages)), each.manifest.name]


def _excerpt(text: str) -> str:
    """Return the beginning of a text on one line, without anything that could move a terminal's cursor."""
    start = " ".join(text[: 4 * EXCERPT_CHARACTERS].split())
    shown = "".join(each if each.isprintable() or each in JOINERS else "\N{REPLACEMENT CHARACTER}" for each in start)
    return shown if len(shown) <= EXCERPT_CHARACTERS else shown[: EXCERPT_CHARACTERS - 1] + "…"


def _print_json(objects: Iterable[dict[str, Any]]) -> None:
    """Print JSON Lines, in ASCII so that any terminal, pipe and lone surrogate can take it."""
    for each in objects:
        print(json.dumps(each))
    sys.stdout.flush()  # a closed pipe shows here, where it is handled, and not at exit


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: with rich on a terminal, in aligned columns elsewhere."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*header, box=None, pad_edge=False)
        for row in rows:
            style = "bold red" if row[0].startswith("FLAGGED") else ""
            table.add_row(*(Text(cell, style=style if index == 0 else "") for index, cell in enumerate(row)))
        Console().print(table)
    else:
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        for row in [header, *rows]:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    sys.stdout.flush()
