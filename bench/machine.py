"""What a figure depends on besides the code: the machine, its load and the versions installed."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimddp", "i8mm", "bf16")
PACKAGES = (
    "crest-guard",
    "numpy",
    "onnxruntime",
    "sentencepiece",
    "torch",
    "transformers",
    "alt-profanity-check",
    "openvino",
)


def describe() -> dict[str, Any]:
    """Describe the machine; `load` is how many processes wanted a core in the minute before."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    info = Path("/proc/cpuinfo")
    facts: dict[str, str] = {}
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    present = (facts.get("flags") or facts.get("Features") or "").split()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": facts.get("model name", platform.processor()),
        "cores": cores,
        "flags": [flag for flag in FLAGS if flag in present],
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
