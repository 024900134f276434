"""`python -m crest.eval` measures a model and writes the results as JSON; progress goes to standard error."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from crest.errors import CrestError
from crest.eval.evaluate import Settings, evaluate, write_results
from crest.eval.predictions import fingerprint
from crest.guard import Guard

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def run(  # noqa: PLR0913  # its options are its arguments
    assembled: Annotated[Path, typer.Option(help="The folder that the pipeline assembled.")],
    out: Annotated[Path, typer.Option(help="The JSON file to write, such as results/default/REVISION.json.")],
    data_dir: Annotated[Path | None, typer.Option(help="The data folder, for the public benchmarks.")] = None,
    model: Annotated[str | None, typer.Option(help="A model folder or hub id; the embedded model if left out.")] = None,
    predictions: Annotated[Path, typer.Option(help="Keeps what each model predicted.")] = Path("runs/predictions"),
    benign_limit: Annotated[int, typer.Option(help="Most benign sentences of a language; 0 for all.")] = 0,
    bench_limit: Annotated[int, typer.Option(help="Most benchmark rows of a language and label; 0 for all.")] = 0,
    threads: Annotated[int | None, typer.Option(help="CPU threads; all if left out.")] = None,
    lingua: Annotated[bool, typer.Option("--lingua", help="Compare with the library lingua.")] = False,
) -> None:
    """Measure a model on the folds kept aside and on public benchmarks."""
    guard = Guard.from_pretrained(model, threads=threads)
    results = evaluate(
        guard,
        assembled=assembled,
        data_dir=data_dir,
        predictions=predictions / fingerprint(guard.manifest)[:12],
        settings=Settings(benign_limit=benign_limit, bench_limit=bench_limit, lingua=lingua),
        progress=lambda message: sys.stderr.write(f"{message}\n"),
    )
    write_results(out, results)
    sys.stderr.write(f"wrote {out}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; an error of crest becomes one line on standard error."""
    try:
        app(args=arguments, prog_name="python -m crest.eval")
    except CrestError as error:
        sys.stderr.write(f"crest: error: {error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
