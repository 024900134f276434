"""Bundles: every way in which one can be broken is one clear error, before anything is used."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from crest import bundle
from crest.bundle import (
    CALIBRATION,
    CARD,
    MANIFEST,
    MODEL,
    OPTIONAL,
    REQUIRED,
    TOKENIZER,
    WEIGHTS,
    find_bundle,
    open_bundle,
)
from crest.errors import BundleError, InputError, ModelNotFoundError

Content = dict[str, Any]


def edit(folder: Path, change: Callable[[Content], object]) -> None:
    """Change the manifest of a bundle."""
    content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    change(content)
    (folder / MANIFEST).write_text(json.dumps(content), encoding="utf-8")


def rename_file(name: str) -> Callable[[Content], object]:
    return lambda content: content["files"].update({name: content["files"].pop(MODEL)})


def set_field(name: str, value: object) -> Callable[[Content], object]:
    return lambda content: content.update({name: value})


# --- open


def test_an_intact_bundle_opens(tiny_bundle: Path) -> None:
    manifest = open_bundle(str(tiny_bundle)).manifest
    assert (manifest.name, manifest.revision, manifest.licence) == ("tiny", "1", "Apache-2.0")
    assert manifest.labels == ("safe", "unsafe")
    assert len(manifest.categories) == 14
    assert manifest.languages == ("en", "sw")
    assert set(manifest.files) == set(REQUIRED)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_file_is_named(name: str, own_bundle: Path) -> None:
    (own_bundle / name).unlink()
    with pytest.raises(BundleError, match=f"lacks {name}; install the model again"):
        open_bundle(own_bundle)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_truncated_file_is_named(name: str, own_bundle: Path) -> None:
    content = (own_bundle / name).read_bytes()
    (own_bundle / name).write_bytes(content[:-1])
    with pytest.raises(BundleError, match=f"{name} has {len(content) - 1} bytes, the manifest says {len(content)}"):
        open_bundle(own_bundle)


@pytest.mark.parametrize("name", REQUIRED)
def test_one_changed_byte_is_found(name: str, own_bundle: Path) -> None:
    content = bytearray((own_bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (own_bundle / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} was changed or damaged"):
        open_bundle(own_bundle)


def test_a_file_that_vanishes_before_it_is_hashed_is_named(own_bundle: Path) -> None:
    opened = bundle.read_bundle(own_bundle)
    (own_bundle / MODEL).unlink()
    with pytest.raises(BundleError, match=f"{MODEL} cannot be read"):
        opened.verify()


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"it has no manifest\.json; pass the folder that holds it"):
        open_bundle(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "\xff", "[" * 100_000])
def test_a_manifest_that_is_no_json_is_named(text: str, own_bundle: Path) -> None:
    (own_bundle / MANIFEST).write_text(text, encoding="latin-1")
    with pytest.raises(BundleError, match=r"manifest\.json cannot be read as JSON"):
        open_bundle(own_bundle)


def test_a_manifest_that_is_no_object_is_named(own_bundle: Path) -> None:
    (own_bundle / MANIFEST).write_text("[]", encoding="utf-8")
    with pytest.raises(BundleError, match="no JSON object"):
        open_bundle(own_bundle)


@pytest.mark.parametrize("version", [2, 0, "1", None])
def test_an_unknown_format_version_asks_for_an_upgrade(version: object, own_bundle: Path) -> None:
    edit(own_bundle, set_field("format", version))
    with pytest.raises(BundleError, match=r"this crest reads 1; upgrade crest-guard"):
        open_bundle(own_bundle)


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "a/b", "a\\b", "..", ".hidden", "", "C:x", MANIFEST])
def test_a_file_name_that_leads_elsewhere_is_refused(name: str, own_bundle: Path) -> None:
    edit(own_bundle, rename_file(name))
    with pytest.raises(BundleError, match="cannot be the name of a file in a bundle"):
        open_bundle(own_bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("files"), "files"),
        (lambda content: content.pop("name"), "name"),
        (lambda content: content["files"].pop(TOKENIZER), r"does not list tokenizer\.model"),
        (lambda content: content["files"].update({MODEL: {"sha256": "0", "bytes": 1}}), "64 hexadecimal digits"),
        (lambda content: content["files"].update({MODEL: []}), "malformed"),
        (set_field("files", []), "malformed"),
        (set_field("labels", ["unsafe", "safe"]), "labels must be safe and unsafe"),
        (set_field("categories", []), "categories must be a list of names"),
        (set_field("languages", [1]), "languages must be a list of names"),
        (set_field("languages", "en"), "languages must be a list of names"),
        (set_field("max_tokens", 4), "max_tokens must be 8 or more"),
        (set_field("overlap_tokens", 100), "max_tokens must be 8 or more"),
        (set_field("max_tokens", "128"), "malformed"),
    ],
)
def test_a_malformed_manifest_says_what_is_wrong(
    change: Callable[[Content], object], message: str, own_bundle: Path
) -> None:
    edit(own_bundle, change)
    with pytest.raises(BundleError, match=message):
        open_bundle(own_bundle)


def test_a_field_that_is_not_known_is_left_alone(own_bundle: Path) -> None:
    edit(own_bundle, set_field("colour", "blue"))
    assert open_bundle(own_bundle).manifest.name == "tiny"


def test_weights_that_nobody_hashed_are_refused(own_bundle: Path) -> None:
    (own_bundle / WEIGHTS).write_bytes(b"weights")
    with pytest.raises(BundleError, match=r"model\.bin, which its manifest does not list"):
        open_bundle(own_bundle)


# --- write


def test_what_is_written_is_read(own_bundle: Path) -> None:
    (own_bundle / CARD).write_text("# Card", encoding="utf-8")
    manifest = replace(
        open_bundle(own_bundle).manifest,
        recipe={"name": "default", "sha256": "0" * 64},
        git_commit="abc",
        sources=({"name": "seeds", "licence": "CC0-1.0", "rows": 3},),
        results={"auc": {"en": 0.98}},
        clusters={"en": 0},
    )
    written = bundle.write_manifest(own_bundle, manifest)
    assert set(written.files) == {*REQUIRED, CARD}
    assert open_bundle(own_bundle).manifest == written


def test_writing_leaves_no_partial_file(own_bundle: Path) -> None:
    bundle.write_manifest(own_bundle, open_bundle(own_bundle).manifest)
    assert sorted(path.name for path in own_bundle.iterdir()) == sorted([MANIFEST, *REQUIRED])


def test_a_manifest_is_not_written_for_an_incomplete_folder(own_bundle: Path) -> None:
    manifest = open_bundle(own_bundle).manifest
    (own_bundle / CALIBRATION).unlink()
    with pytest.raises(BundleError, match="write it before the manifest"):
        bundle.write_manifest(own_bundle, manifest)


# --- copy


def test_a_copy_opens(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle.copy_bundle(open_bundle(tiny_bundle), tmp_path / "new" / "copy")
    assert open_bundle(tmp_path / "new" / "copy").manifest == open_bundle(tiny_bundle).manifest


def test_a_copy_onto_itself_or_a_file_is_refused(own_bundle: Path, tmp_path: Path) -> None:
    opened = open_bundle(own_bundle)
    (tmp_path / "file").touch()
    for target in (own_bundle, tmp_path / "file"):
        with pytest.raises(InputError, match="pass another folder"):
            bundle.copy_bundle(opened, target)
    assert open_bundle(own_bundle) == opened


# --- find


def test_a_folder_is_found(tiny_bundle: Path) -> None:
    assert find_bundle(tiny_bundle) == tiny_bundle
    assert find_bundle(str(tiny_bundle)) == tiny_bundle


def test_no_model_means_the_embedded_one(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "EMBEDDED", tiny_bundle)
    assert find_bundle() == tiny_bundle


def test_an_installation_without_its_model_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "EMBEDDED", tmp_path)
    with pytest.raises(ModelNotFoundError, match="reinstall crest-guard"):
        find_bundle()


@pytest.mark.parametrize("model", ["nothing-here", "./no/such/folder", Path("no/such"), ""])
def test_a_folder_that_is_not_there_is_not_found(model: str | Path) -> None:
    with pytest.raises(ModelNotFoundError, match="there is no folder"):
        find_bundle(model)


def test_a_revision_needs_a_hub_model(tiny_bundle: Path) -> None:
    for model in (None, tiny_bundle):
        with pytest.raises(InputError, match="revision chooses among the versions of a hub model"):
            find_bundle(model, revision="main")


def test_a_hub_model_is_fetched_at_its_revision(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        assert (name, revision) == ("owner/name", "abc")
        assert set(allow_patterns) == {MANIFEST, *REQUIRED, *OPTIONAL}
        return str(tiny_bundle)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert find_bundle("owner/name", revision="abc") == tiny_bundle


def test_a_hub_that_cannot_be_reached_says_how_to_install_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, **settings: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection\nand a long story")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(
        ModelNotFoundError, match=r"at revision 'abc': no connection\. .*`hf download owner/name"
    ) as caught:
        find_bundle("owner/name", revision="abc")
    assert "\n" not in str(caught.value)
