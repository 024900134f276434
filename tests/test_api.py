"""The front door: exactly these names, and nothing heavy behind an import."""

from __future__ import annotations

import inspect
import subprocess
import sys

import crest
from crest import Guard


def loaded_by(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after running the code."""
    printed = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    ).stdout
    return set(printed.splitlines()[-1].split())


def test_the_package_offers_four_names() -> None:
    assert sorted(crest.__all__) == ["CrestError", "Guard", "Verdict", "__version__"]
    assert all(hasattr(crest, name) for name in crest.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(crest, "Guards")


def test_the_guard_offers_exactly_its_public_members() -> None:
    assert sorted(name for name in dir(Guard) if not name.startswith("_")) == [
        "categories",
        "check",
        "check_pairs",
        "from_pretrained",
        "labels",
        "languages",
        "manifest",
        "predict_proba",
        "save_pretrained",
    ]


def test_from_pretrained_takes_exactly_its_options() -> None:
    assert list(inspect.signature(Guard.from_pretrained).parameters) == ["model", "revision", "threads", "threshold"]


def test_importing_crest_loads_nothing_heavy() -> None:
    heavy = {"numpy", "onnxruntime", "sentencepiece", "huggingface_hub", "typer", "rich", "torch"}
    assert not loaded_by("import crest") & heavy


def test_checking_a_text_loads_neither_torch_nor_the_lab_nor_the_hub() -> None:
    loaded = loaded_by("from crest import Guard\nGuard.from_pretrained().check(['Good morning'])")
    assert "onnxruntime" in loaded
    assert not loaded & {"torch", "transformers", "onnx", "huggingface_hub", "crest.pipeline", "typer", "rich"}
