"""Each error can be caught as crest's, as Python's, and has its own exit code."""

import inspect
import pickle

import pytest

from crest import errors
from crest.errors import CrestError, MissingExtraError

EXPECTED = {
    "CrestError": (Exception, 1),
    "InputError": (ValueError, 2),
    "RecipeError": (errors.InputError, 2),
    "ModelNotFoundError": (LookupError, 4),
    "BundleError": (CrestError, 5),
    "MissingExtraError": (ImportError, 6),
    "OverloadedError": (CrestError, 7),
    "BackendError": (CrestError, 8),
}


def _error_classes() -> dict[str, type[CrestError]]:
    return {name: cls for name, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, CrestError)}


def test_the_tree_has_the_eight_errors_that_are_documented() -> None:
    assert sorted(_error_classes()) == sorted(EXPECTED)
    assert len(EXPECTED) == 8


@pytest.mark.parametrize(("name", "parent", "exit_code"), [(name, *rest) for name, rest in EXPECTED.items()])
def test_an_error_has_its_parent_and_its_exit_code(name: str, parent: type[Exception], exit_code: int) -> None:
    cls = _error_classes()[name]
    assert issubclass(cls, parent)
    assert cls.exit_code == exit_code


def test_the_exit_code_of_a_flagged_text_belongs_to_no_error() -> None:
    assert errors.EXIT_FLAGGED not in {cls.exit_code for cls in _error_classes().values()}


def test_every_error_is_drawn_in_the_docstring() -> None:
    assert errors.__doc__ is not None
    missing = [name for name in EXPECTED if name not in errors.__doc__]
    assert not missing


def test_a_missing_extra_names_the_command_to_run() -> None:
    error = MissingExtraError("serve", "crest serve")
    assert str(error) == "crest serve needs the extra 'serve': run pip install 'crest-guard[serve]'"


def test_a_missing_extra_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(MissingExtraError("ray", "crest scan")))
    assert (error.extra, error.feature) == ("ray", "crest scan")
