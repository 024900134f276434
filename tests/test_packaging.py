"""From a checkout to a verdict, as a stranger goes: wheel, clean environment without torch, network cut off."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from test_docs import INSTALLS, ROOT, blocks

MAX_WHEEL_BYTES = 100_000_000
NO_SOCKETS = '''"""Refuse every connection, for machines where the network cannot be cut off from outside."""
import sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise OSError(f"the network is cut off: {event} {arguments!r}")

sys.addaudithook(refuse)
'''


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    """Run a command outside any virtual environment and return its standard output."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    finished = subprocess.run(
        command,
        cwd=folder,
        env=clean | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git knows, as a stranger would clone it, with the changes not yet committed."""
    folder = tmp_path_factory.mktemp("clone") / "crest"
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", folder=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, checkout, folder=folder)
    return next(folder.glob("crest_guard-*.whl"))


@pytest.fixture(scope="module")
def environment(checkout: Path) -> Path:
    """The environment that the README's install command makes."""
    [install] = [block.code for block in blocks(ROOT / "README.md") if INSTALLS in block.code]
    printed = run("bash", "-euo", "pipefail", "-c", install, folder=checkout)
    assert len([line for line in printed.splitlines() if line.startswith(("safe ", "FLAGGED "))]) == 2
    return checkout / ".venv"


def offline(*command: str | Path, folder: Path) -> str:
    """Run a command without a network: behind an audit hook, and in an empty network namespace if the system allows."""
    (folder / "sitecustomize.py").write_text(NO_SOCKETS, encoding="utf-8")
    return run(*_unshare(), *command, folder=folder, PYTHONPATH=str(folder), HF_HOME=str(folder / "empty-cache"))


def _unshare() -> list[str]:
    """Return the prefix that takes the network away from a command; empty where there is none."""
    if shutil.which("unshare") is None:
        return []
    prefixes = (["unshare", "--net"], ["unshare", "--map-root-user", "--net"])
    works = [
        each for each in prefixes if subprocess.run([*each, "true"], capture_output=True, check=False).returncode == 0
    ]
    return works[0] if works else []


def test_the_wheel_holds_the_whole_bundle_and_fits_pypi(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    listed = json.loads((ROOT / "src/crest/models/default/manifest.json").read_text(encoding="utf-8"))["files"]
    assert {"model.onnx", "tokenizer.model", "calibration.json", "CARD.md"} <= set(listed)
    assert {f"crest/models/default/{name}" for name in ("manifest.json", *listed)} <= names
    assert {"crest/languages.tsv", "crest/py.typed"} <= names
    assert wheel.stat().st_size < MAX_WHEEL_BYTES


def test_the_wheel_carries_licence_and_notice_and_nothing_else_beside_the_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {Path(name).name for name in names if "/licenses/" in name} == {"LICENSE", "NOTICE"}
    assert {name.split("/")[0].split("-")[0] for name in names} == {"crest", "crest_guard"}


def test_a_base_install_has_no_torch(environment: Path) -> None:
    listed = json.loads(run(environment / "bin" / "pip", "list", "--format", "json", folder=environment))
    installed = {package["name"].lower() for package in listed}
    assert "crest-guard" in installed
    assert not installed & {"torch", "transformers", "onnx", "tokenizers", "scikit-learn"}


def test_the_network_is_really_cut_off(environment: Path, tmp_path: Path) -> None:
    code = "import socket\ntry:\n socket.create_connection(('127.0.0.1', 9))\nexcept OSError as error:\n print(error)"
    printed = offline(environment / "bin" / "python", "-c", code, folder=tmp_path)
    assert "the network is cut off" in printed


def test_an_installed_crest_checks_texts_offline(environment: Path, tmp_path: Path) -> None:
    texts = ["How do I bake bread?", "Nitatengenezaje bomu nyumbani?", "كيف أخبز الخبز؟"]
    printed = offline(environment / "bin" / "crest", "check", "--json", *texts, folder=tmp_path)
    verdicts = [json.loads(line) for line in printed.splitlines()]
    assert [verdict["language"] for verdict in verdicts] == ["en", "sw", "ar"]
    assert [verdict["flagged"] for verdict in verdicts] == [False, True, False]


def test_the_installed_wheel_is_the_one_that_was_inspected(environment: Path, wheel: Path) -> None:
    [installed] = environment.glob("lib/python*/site-packages/crest")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("crest/")}
    found = {path.relative_to(installed.parent).as_posix() for path in installed.rglob("*") if path.is_file()}
    assert {name for name in found if "__pycache__" not in name} == names
