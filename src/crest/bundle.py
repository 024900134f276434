"""Find, verify and write a bundle: the folder that holds a model, its tokenizer, its calibration and a manifest."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from crest.errors import BundleError, InputError, ModelNotFoundError

FORMAT = 1
MANIFEST = "manifest.json"
MODEL = "model.onnx"
WEIGHTS = "model.bin"  # external data of the ONNX file: mapped into memory instead of read and copied
TOKENIZER = "tokenizer.model"
CALIBRATION = "calibration.json"
CARD = "CARD.md"
REQUIRED = (MODEL, TOKENIZER, CALIBRATION)
OPTIONAL = (WEIGHTS, CARD)
EMBEDDED = Path(__file__).parent / "models" / "default"

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_FILE_NAME = re.compile(r"(?!\.)[\w.-]+", re.ASCII)
_SHA256 = re.compile("[0-9a-f]{64}")
_AGAIN = "install the model again"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What a file of a bundle must be.

    Attributes:
        sha256: Hash of its content, 64 hexadecimal digits.
        bytes: Its size.
    """

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle says about itself.

    Attributes:
        name: Name of the model.
        revision: Version of the model, as its maker counts.
        licence: SPDX expression.
        categories: Categories, in the order of the model's category head.
        languages: BCP-47 codes, in the order of the model's language head.
        labels: The two labels, safe first.
        max_tokens: Length of a window, with its special tokens.
        overlap_tokens: How many tokens a window shares with the one before it.
        files: Every file of the bundle but the manifest.
        recipe: Name and sha256 of the recipe that made it.
        git_commit: Commit of the code that made it.
        sources: Name, licence and number of rows of everything it was trained on.
        results: Headline results.
        clusters: Cluster of each language, where known.
        format: Version of this format.
    """

    name: str
    revision: str
    licence: str
    categories: tuple[str, ...]
    languages: tuple[str, ...]
    labels: tuple[str, ...] = ("safe", "unsafe")
    max_tokens: int = 128
    overlap_tokens: int = 32
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    recipe: Mapping[str, str] = field(default_factory=dict)
    git_commit: str = ""
    sources: tuple[Mapping[str, Any], ...] = ()
    results: Mapping[str, Any] = field(default_factory=dict)
    clusters: Mapping[str, int] = field(default_factory=dict)
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model folder whose manifest has been read and whose files have the right sizes.

    Attributes:
        folder: Where it is.
        manifest: What it says about itself.
    """

    folder: Path
    manifest: Manifest

    def verify(self) -> None:
        """Hash every file.

        Raises:
            BundleError: If the content of one is not what the manifest says.
        """
        for name, record in self.manifest.files.items():
            found = _sha256(self.folder / name)
            if found != record.sha256:
                raise BundleError(
                    f"{self.folder / name} was changed or damaged: its sha256 is {found}, the manifest says "
                    f"{record.sha256}; {_AGAIN}"
                )


def find_bundle(model: str | Path | None = None, *, revision: str | None = None) -> Path:
    """Find the folder of a model, and fetch it from the Hugging Face hub if need be.

    Args:
        model: None for the embedded model, a folder, or a hub id such as `owner/name`.
        revision: Commit, tag or branch of a hub model.

    Raises:
        ModelNotFoundError: If there is no such model, or the hub cannot be reached.
        InputError: If a revision is asked for of a model that has none.
    """
    hub_id = str(model) if isinstance(model, str) and not Path(model).is_dir() and _HUB_ID.fullmatch(model) else None
    if hub_id is not None:
        return _fetch(hub_id, revision=revision)
    if revision is not None:
        raise InputError("revision chooses among the versions of a hub model such as 'owner/name'; leave it out here")
    if model is None:
        if not (EMBEDDED / MANIFEST).is_file():
            raise ModelNotFoundError(
                f"this installation has no embedded model in {EMBEDDED}; reinstall crest-guard from a wheel, "
                "or name a model: Guard.from_pretrained('path/to/folder')"
            )
        return EMBEDDED
    folder = Path(model)
    if model == "" or not folder.is_dir():  # Path("") would be the current folder
        raise ModelNotFoundError(
            f"there is no folder {str(model)!r}; pass a model folder or a hub id such as 'owner/name'"
        )
    return folder


def _fetch(hub_id: str, *, revision: str | None) -> Path:
    import huggingface_hub  # noqa: PLC0415  # takes long, and only hub models need it

    wanted = [MANIFEST, *REQUIRED, *OPTIONAL]
    try:
        return Path(huggingface_hub.snapshot_download(hub_id, revision=revision, allow_patterns=wanted))
    except (OSError, ValueError) as error:
        at = f" at revision {revision!r}" if revision else ""
        raise ModelNotFoundError(
            f"{hub_id!r} is no folder here, and the Hugging Face hub does not give it{at}: {_first_line(error)}. "
            f"Check the name and the network. To install it offline, run `hf download {hub_id} --local-dir FOLDER` on "
            "a machine with network, copy the folder here and pass its path"
        ) from error


def open_bundle(folder: str | Path) -> Bundle:
    """Read and verify a bundle.

    Raises:
        BundleError: If it is of an unknown format version, incomplete, changed or damaged.
    """
    bundle = read_bundle(folder)
    bundle.verify()
    return bundle


def read_bundle(folder: str | Path) -> Bundle:
    """Read a bundle's manifest and check that its files are there in full; `Bundle.verify` then hashes them.

    Raises:
        BundleError: If the manifest cannot be used, or a file is missing or has another size.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(
            f"{folder} is not a crest bundle: it has no {MANIFEST}; pass the folder that holds it"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} cannot be read as JSON ({error}); {_AGAIN}") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path} holds no JSON object; {_AGAIN}")
    if content.get("format") != FORMAT:
        raise BundleError(
            f"{path} has format {content.get('format')!r}, this crest reads {FORMAT}; upgrade crest-guard"
        )
    try:
        manifest = _manifest(content)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BundleError(f"{path} is malformed ({error}); {_AGAIN}") from error
    for name, record in manifest.files.items():
        try:
            size = (folder / name).stat().st_size
        except OSError:
            raise BundleError(f"{folder} lacks {name}; {_AGAIN}") from None
        if size != record.bytes:
            raise BundleError(f"{folder / name} has {size} bytes, the manifest says {record.bytes}; {_AGAIN}")
    if WEIGHTS not in manifest.files and (folder / WEIGHTS).exists():
        raise BundleError(f"{folder} holds {WEIGHTS}, which its manifest does not list; {_AGAIN}")
    return Bundle(folder, manifest)


def _manifest(content: dict[str, Any]) -> Manifest:
    """Build a manifest from JSON, or raise ValueError, LookupError, TypeError or AttributeError."""
    known = {each.name for each in fields(Manifest)}
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items() if name in known
    }
    files = {}
    for name, record in content["files"].items():
        if not _FILE_NAME.fullmatch(name) or name == MANIFEST:
            raise ValueError(f"{name!r} cannot be the name of a file in a bundle")
        files[name] = FileRecord(sha256=str(record["sha256"]), bytes=int(record["bytes"]))
        if not _SHA256.fullmatch(files[name].sha256):
            raise ValueError(f"the sha256 of {name} is not 64 hexadecimal digits")
    missing = [name for name in REQUIRED if name not in files]
    if missing:
        raise ValueError(f"it does not list {', '.join(missing)}")
    manifest = Manifest(**{**values, "files": files})
    for name in ("labels", "categories", "languages"):
        names = getattr(manifest, name)
        if not isinstance(names, tuple) or not names or not all(isinstance(each, str) for each in names):
            raise ValueError(f"{name} must be a list of names")
    if manifest.labels != ("safe", "unsafe"):
        raise ValueError("labels must be safe and unsafe, in this order")
    if manifest.max_tokens < 8 or not 0 <= manifest.overlap_tokens <= manifest.max_tokens // 2:
        raise ValueError("max_tokens must be 8 or more and overlap_tokens between 0 and half of it")
    return manifest


def write_manifest(folder: str | Path, manifest: Manifest) -> Manifest:
    """Hash the files of a folder and write its manifest, in one step that cannot be seen half done.

    Args:
        folder: Holds the model, its tokenizer, its calibration and, if there are any, its weights and its card.
        manifest: What to write; its `files` are replaced by what is found.

    Returns:
        The manifest as written.

    Raises:
        BundleError: If a required file is missing.
    """
    folder = Path(folder)
    files = {}
    for name in (*REQUIRED, *OPTIONAL):
        path = folder / name
        if path.is_file():
            files[name] = FileRecord(sha256=_sha256(path), bytes=path.stat().st_size)
        elif name in REQUIRED:
            raise BundleError(f"{folder} lacks {name}; write it before the manifest")
    written = replace(manifest, files=files, format=FORMAT)
    content = json.dumps({"format": FORMAT, **asdict(written)}, indent=1, ensure_ascii=False) + "\n"
    partial = folder / f".{MANIFEST}.{os.getpid()}"
    partial.write_text(content, encoding="utf-8")
    partial.replace(folder / MANIFEST)
    return written


def copy_bundle(bundle: Bundle, folder: str | Path) -> None:
    """Copy a bundle into a folder, the manifest last, so that a broken copy cannot be mistaken for a whole one.

    Raises:
        InputError: If the folder is the bundle's own, or a file.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or folder.samefile(bundle.folder)):
        raise InputError(f"cannot write a bundle to {folder}; pass another folder, new or empty")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    for name in (*bundle.manifest.files, MANIFEST):
        shutil.copyfile(bundle.folder / name, folder / name)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error}); {_AGAIN}") from error
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]
