"""The error tree: every failure that crest reports on purpose, with the exit code of the command line on its class.

    CrestError                    1   anything below; catch this one to catch them all
    ├── InputError(ValueError)    2   the caller's text, argument or file is wrong
    │   └── RecipeError           2   a training recipe is wrong
    ├── ModelNotFoundError        4   no such folder or hub model (also a LookupError)
    ├── BundleError               5   a model folder is damaged or of an unknown format
    ├── MissingExtraError         6   an optional package is absent (also an ImportError)
    ├── OverloadedError           7   the queue is full; try again later
    └── BackendError              8   the engine failed while scoring

Exit code 3 is not an error: `crest check --fail-on-flagged` uses it to say that a text was flagged.
"""

from __future__ import annotations

from typing import ClassVar

EXIT_FLAGGED = 3
"""Exit code of `crest check --fail-on-flagged` when a text was flagged."""


class CrestError(Exception):
    """The root of all errors that crest raises on purpose.

    Attributes:
        exit_code: What the command line exits with.
    """

    exit_code: ClassVar[int] = 1


class InputError(CrestError, ValueError):
    """The caller passed something that cannot be used; the message says what to pass instead."""

    exit_code: ClassVar[int] = 2


class RecipeError(InputError):
    """A training recipe asks for something impossible or unknown."""


class ModelNotFoundError(CrestError, LookupError):
    """No model of that name, folder or revision can be found."""

    exit_code: ClassVar[int] = 4


class BundleError(CrestError):
    """A model folder is damaged, incomplete or written in an unknown format version."""

    exit_code: ClassVar[int] = 5


class MissingExtraError(CrestError, ImportError):
    """A feature needs a package that a base install leaves out.

    Args:
        extra: The extra of `crest-guard` that brings the package, such as `serve`.
        feature: What the user asked for, in words that complete "... needs an extra".
    """

    exit_code: ClassVar[int] = 6

    def __init__(self, extra: str, feature: str = "this feature") -> None:
        """Write the message that names the command to run."""
        super().__init__(f"{feature} needs the extra {extra!r}: run pip install 'crest-guard[{extra}]'")
        self.extra = extra
        self.feature = feature

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        """Pickle by the arguments, so that the error survives the way back from a worker process."""
        return type(self), (self.extra, self.feature)


class OverloadedError(CrestError):
    """The queue is full; the work was refused at once and may be tried again later."""

    exit_code: ClassVar[int] = 7


class BackendError(CrestError):
    """The engine failed, or returned something that cannot be a score."""

    exit_code: ClassVar[int] = 8
