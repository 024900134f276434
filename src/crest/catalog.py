"""List the models at hand: the embedded one and the bundles that the Hugging Face cache holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crest.bundle import EMBEDDED, MANIFEST, REQUIRED, Manifest, read_bundle
from crest.errors import BundleError

BUNDLE_FILES = frozenset((MANIFEST, *REQUIRED))


@dataclass(frozen=True, slots=True)
class Model:
    """A model that opens without a download.

    Attributes:
        model: What `Guard.from_pretrained` takes: a hub id, or None for the embedded model.
        revision: Commit of a hub model, else the manifest's revision; None if that cannot be read.
        folder: Where it is.
        manifest: What it says about itself; None if that cannot be used.
        problem: Why it cannot be used; None if it can.
    """

    model: str | None
    revision: str | None
    folder: Path
    manifest: Manifest | None = None
    problem: str | None = None

    @property
    def bytes(self) -> int | None:
        """Size of its files; None if the manifest cannot be used."""
        return None if self.manifest is None else sum(record.bytes for record in self.manifest.files.values())


def list_models() -> list[Model]:
    """Return the models at hand, the embedded one first, then those of the cache by hub id; a damaged one says so."""
    found = [_read(None, revision=None, folder=EMBEDDED)] if (EMBEDDED / MANIFEST).is_file() else []
    return found + [_read(hub_id, revision=commit, folder=folder) for hub_id, commit, folder in _cached()]


def _cached() -> list[tuple[str, str, Path]]:
    """Return hub id, commit and folder of every snapshot in the cache that has the files of a bundle."""
    import huggingface_hub  # noqa: PLC0415  # takes long, and only this needs it

    try:
        repositories = huggingface_hub.scan_cache_dir(huggingface_hub.constants.HF_HUB_CACHE).repos
    except huggingface_hub.CacheNotFound:
        return []
    return sorted(
        (repository.repo_id, revision.commit_hash, revision.snapshot_path)
        for repository in repositories
        for revision in repository.revisions
        if repository.repo_type == "model" and BUNDLE_FILES.issubset(file.file_name for file in revision.files)
    )


def _read(model: str | None, *, revision: str | None, folder: Path) -> Model:
    try:
        manifest = read_bundle(folder).manifest
    except BundleError as error:
        return Model(model, revision, folder, problem=str(error))
    return Model(model, revision or manifest.revision, folder, manifest)
