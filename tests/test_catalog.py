"""Models at hand: the embedded one, those of the hub's cache, and damaged ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crest import catalog
from crest.bundle import CARD, MANIFEST, REQUIRED, Manifest, write_manifest
from crest.catalog import list_models
from crest.cli import main

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write_bundle(folder: Path, *, name: str = "tiny") -> Path:
    """Write a bundle whose four files have 10 bytes each."""
    folder.mkdir(parents=True)
    for file in (*REQUIRED, CARD):
        (folder / file).write_text("ten bytes.")
    write_manifest(folder, Manifest(name, "7", "MIT", categories=("fraud",), languages=("en", "sw")))
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and an installation without an embedded model."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(catalog, "EMBEDDED", tmp_path / "embedded")
    return tmp_path / "cache"


@pytest.fixture
def models(cache: Path) -> tuple[Path, Path, Path]:
    """One embedded model, a whole and a damaged one in the cache, beside a repository that is no bundle."""
    embedded = write_bundle(cache.parent / "embedded", name="small")
    whole = write_bundle(cache / "models--owner--whole" / "snapshots" / COMMIT)
    damaged = write_bundle(cache / "models--owner--damaged" / "snapshots" / COMMIT)
    (damaged / "model.onnx").write_text("short")
    other = cache / "models--owner--other" / "snapshots" / COMMIT
    other.mkdir(parents=True)
    (other / MANIFEST).write_text("{}")
    return embedded, damaged, whole


def test_without_any_model_the_list_is_empty(cache: Path) -> None:
    assert list_models() == []


def test_an_empty_cache_adds_nothing_to_the_embedded_model(cache: Path) -> None:
    write_bundle(cache.parent / "embedded")
    cache.mkdir()
    assert [model.model for model in list_models()] == [None]


def test_the_embedded_model_comes_first_then_the_cache_by_hub_id(models: tuple[Path, Path, Path]) -> None:
    found = list_models()
    assert [model.folder for model in found] == list(models)
    assert [model.model for model in found] == [None, "owner/damaged", "owner/whole"]


def test_the_revision_is_the_commit_on_the_hub_or_else_that_of_the_manifest(models: tuple[Path, Path, Path]) -> None:
    embedded, _, whole = list_models()
    assert (embedded.revision, whole.revision) == ("7", COMMIT)


def test_the_size_is_that_of_all_files(models: tuple[Path, Path, Path]) -> None:
    assert list_models()[2].bytes == 40


def test_a_damaged_model_is_listed_with_its_problem(models: tuple[Path, Path, Path]) -> None:
    damaged = list_models()[1]
    assert damaged.manifest is None
    assert damaged.bytes is None
    assert "model.onnx has 5 bytes, the manifest says 10" in str(damaged.problem)


def test_the_command_prints_a_row_per_model(
    models: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["models"])
    header, embedded, damaged, whole = capsys.readouterr().out.splitlines()
    assert header.split() == ["model", "revision", "size", "languages", "name"]
    assert embedded.split() == ["(embedded)", "7", "0", "MB", "2", "small"]
    assert damaged.split()[:5] == ["owner/damaged", COMMIT, "-", "-", "unusable:"]
    assert whole.split() == ["owner/whole", COMMIT, "0", "MB", "2", "tiny"]


def test_the_command_prints_a_json_object_per_model(
    models: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["models", "--json"])
    embedded, damaged, _ = map(json.loads, capsys.readouterr().out.splitlines())
    assert embedded == {
        "model": None,
        "revision": "7",
        "name": "small",
        "licence": "MIT",
        "bytes": 40,
        "languages": ["en", "sw"],
        "folder": str(models[0]),
        "problem": None,
    }
    assert (damaged["model"], damaged["name"], damaged["languages"]) == ("owner/damaged", None, None)
