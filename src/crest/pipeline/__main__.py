"""Run a recipe: `python -m crest.pipeline recipes/smoke.toml`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

import typer

from crest.errors import CrestError
from crest.pipeline.recipe import read_recipe
from crest.pipeline.run import Places, run_recipe

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def main(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a TOML file.")],
    data_dir: Annotated[Path, typer.Option(help="Folder of the data sets.")] = Path("data"),
    encoder: Annotated[Path | None, typer.Option(help="Hugging Face folder of the encoder.")] = None,
    runs: Annotated[Path, typer.Option(help="Where the steps write.")] = Path("runs"),
    until: Annotated[str, typer.Option(help="The last step to run.")] = "calibrate",
) -> None:
    """Run the steps of a recipe; what is done is skipped, and a killed run goes on from its last checkpoint."""
    try:
        places = Places(data_dir=data_dir, encoder=encoder, runs=runs)
        say = functools.partial(typer.echo, err=True)
        typer.echo(run_recipe(read_recipe(recipe), places, until=until, say=say))
    except CrestError as error:
        typer.echo(str(error), err=True)
        raise SystemExit(error.exit_code) from error


if __name__ == "__main__":
    app()
