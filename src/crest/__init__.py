"""crest: judge texts in 100 languages as safe or unsafe, on a CPU, offline."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crest.errors import CrestError
    from crest.guard import Guard
    from crest.types import Verdict

__all__ = ["CrestError", "Guard", "Verdict", "__version__"]

__version__ = "0.1.0"

_HOMES = {"CrestError": "crest.errors", "Guard": "crest.guard", "Verdict": "crest.types"}


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that `import crest` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'crest' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
