"""Run a recipe's steps in order; each writes a folder of its own, and one whose inputs have not changed is skipped."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from crest.errors import RecipeError
from crest.pipeline.assemble import assemble
from crest.pipeline.recipe import STEPS, Recipe
from crest.pipeline.tiny import write_tiny_encoder

DONE = "step.json"
PACKAGES = ("numpy", "torch", "onnx", "onnxruntime", "sentencepiece")


@dataclass(frozen=True, slots=True)
class Places:
    """Where a run reads and writes.

    Attributes:
        data_dir: Folder of the data sets.
        encoder: Hugging Face folder of the encoder; None makes a tiny random one.
        runs: Folder for the steps' folders.
    """

    data_dir: Path
    encoder: Path | None
    runs: Path


def run_recipe(recipe: Recipe, places: Places, *, until: str = "calibrate", say: Callable[[str], None]) -> Path:
    """Run the steps up to one of them.

    Args:
        recipe: The recipe.
        places: Where to read and write.
        until: Name of the last step to run.
        say: Is told what happens.

    Returns:
        The folder of the last step; after "export" and "calibrate" its `bundle` is a model.

    Raises:
        RecipeError: If there is no such step, or the encoder is missing.
    """
    if until not in STEPS:
        raise RecipeError(f"there is no step {until!r}; choose from {', '.join(STEPS)}")
    if places.encoder is None and recipe.encoder.source != "random":
        raise RecipeError(f"the recipe's encoder is {recipe.encoder.name}; give its folder with --encoder")
    if places.encoder is not None and recipe.encoder.source == "random":
        raise RecipeError("the recipe makes a random encoder; leave out --encoder")
    inputs = _digest(places)
    folders: dict[str, Path] = {}
    for step in STEPS:
        fingerprint = recipe.fingerprint(step, inputs=inputs)
        folder = folders[step] = places.runs / f"{step}-{fingerprint}"
        if (folder / DONE).exists():
            say(f"{step}: done before, in {folder}")
        else:
            say(f"{step}: {folder}")
            folder.mkdir(parents=True, exist_ok=True)
            begin = time.monotonic()
            _run(step, recipe, places, folders, say)
            facts = {
                "recipe": recipe.name,
                "inputs": inputs,
                "fingerprint": fingerprint,
                "seconds": round(time.monotonic() - begin, 1),
                "python": platform.python_version(),
                "packages": {name: metadata.version(name) for name in PACKAGES},
            }
            (folder / DONE).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        if step == until:
            break
    return folders[until]


def _run(step: str, recipe: Recipe, places: Places, folders: Mapping[str, Path], say: Callable[[str], None]) -> None:
    encoder = places.encoder or folders["assemble"] / "encoder"
    out = folders[step]
    if step == "assemble":
        if places.encoder is None:
            write_tiny_encoder(encoder, data_dir=places.data_dir, seed=recipe.train.seed)
        assemble(recipe, data_dir=places.data_dir, encoder=encoder, out=out)
    elif step == "train":
        from crest.pipeline.train import train

        train(recipe, assembled=folders["assemble"], encoder=encoder, out=out)
    elif step == "export":
        from crest.pipeline.export import export

        (out / "bundle").mkdir(exist_ok=True)
        export(recipe, assembled=folders["assemble"], trained=folders["train"], encoder=encoder, out=out / "bundle")
    else:
        from crest.pipeline.calibrate import Aim, calibrate

        shutil.copytree(folders["export"] / "bundle", out / "bundle", dirs_exist_ok=True)
        aim = Aim(target_fpr=recipe.calibrate.target_fpr, min_threshold=recipe.calibrate.min_threshold)
        calibrate(
            out / "bundle",
            assembled=folders["assemble"],
            aim=aim,
            predictions=out / "predictions",
            benign_limit=recipe.calibrate.benign_limit,
            progress=say,
        )


def _digest(places: Places) -> str:
    """Return a hash over names and sizes of all input files."""
    digest = hashlib.sha256()
    for folder in (places.data_dir, places.encoder):
        for path in sorted(folder.rglob("*")) if folder else ():
            if path.is_file():
                digest.update(f"{path.relative_to(folder or path)} {path.stat().st_size}\n".encode())
    return digest.hexdigest()[:12]
