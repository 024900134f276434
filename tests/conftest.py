"""Fixtures that several test files share; the rule of the tiny bundle stands in `tiny.py`, the lab has `lab.py`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tiny
from crest import Guard

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a visible rule; do not change its files."""
    return tiny.write_bundle(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def own_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle to damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def guard(tiny_bundle: Path) -> Guard:
    """A guard around the tiny bundle, with one thread."""
    return Guard.from_pretrained(tiny_bundle, threads=1)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Hugging Face folder of the random encoder that the smoke recipe trains."""
    from crest.pipeline.tiny import write_tiny_encoder

    folder = tmp_path_factory.mktemp("encoder")
    write_tiny_encoder(folder, data_dir=ROOT / "data", seed=1)
    return folder


@dataclass(frozen=True, slots=True)
class Smoke:
    """What the smoke recipe left behind.

    Attributes:
        folder: The last step's folder, as the command printed it.
        said: The lines of its standard error.
    """

    folder: Path
    said: tuple[str, ...]


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Smoke:
    """The smoke recipe, run once through the command; do not change its files."""
    from crest.pipeline.__main__ import app

    runs = tmp_path_factory.mktemp("smoke")
    arguments = [str(ROOT / "recipes/smoke.toml"), "--data-dir", str(ROOT / "data"), "--runs", str(runs)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return Smoke(Path(result.stdout.strip()), tuple(result.stderr.splitlines()))
