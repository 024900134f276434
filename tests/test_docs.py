"""Every Python and bash block of README.md and docs/ runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^(<!-- not run: [^\n]+ -->\n)?```(python|bash)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INSTALLS = ".venv/bin/pip install ."
"""The README's install command: tests/test_packaging.py runs it."""


class Block(NamedTuple):
    language: str
    code: str
    skipped: bool


def blocks(page: Path) -> list[Block]:
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [Block(language, code, bool(comment)) for comment, language, code in found]


def run(command: list[str], *, folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONWARNINGS": "error"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=600, check=False
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path) -> None:
    runnable = [block for block in blocks(page) if not block.skipped and INSTALLS not in block.code]
    # The blocks of a page follow one another: Python ones share their names, bash ones their folder.
    python = "\n".join(block.code for block in runnable if block.language == "python")
    commands = "\n".join(block.code for block in runnable if block.language == "bash")
    for command in ([sys.executable, "-c", python], ["bash", "-euo", "pipefail", "-c", commands]):
        finished = run(command, folder=tmp_path)
        assert finished.returncode == 0, finished.stderr


def test_the_pages_have_blocks_to_run() -> None:
    counts = {str(page.relative_to(ROOT)): len(blocks(page)) for page in PAGES}
    assert counts["README.md"] == 4
    assert counts["docs/quickstart.md"] == 7


def test_three_blocks_are_not_run() -> None:
    skipped = [block.code.split()[:4] for page in PAGES for block in blocks(page) if block.skipped]
    assert skipped == [["make", "test"], ["make", "smoke"], ["python", "-m", "crest.pipeline", "recipes/default.toml"]]


def test_the_test_command_of_the_readme_is_what_ci_runs() -> None:
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").endswith("\nmake test\n")


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
    links = [
        (page, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
        if not target.startswith("http")
    ]
    assert len(links) >= 8
    assert [(page.name, target) for page, target in links if not (page.parent / target).exists()] == []
