"""Fixtures that several test files share; the tiny bundle's rule stands in `tiny.py`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import tiny
from crest import Guard


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
