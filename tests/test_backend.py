"""Backends: ONNX Runtime runs the tiny graph, and batches are sorted, bounded and checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import tiny
from crest.backend import Logits, OnnxBackend, run_sorted
from crest.bundle import MODEL
from crest.encode import PAD_ID
from crest.errors import BackendError, BundleError


def sequences(*lengths: int) -> list[NDArray[np.int64]]:
    """Sequences of safe tokens; that of length n begins with n % 3 bombs."""
    return [np.array([tiny.BOMB] * (n % 3) + [tiny.CAKE] * (n - n % 3)) for n in lengths]


class Broken:
    """A backend that gives an answer of its choice."""

    def __init__(self, *answers: Logits) -> None:
        self.answers = list(answers)

    def run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Logits:
        return self.answers.pop(0)


def logits(n: int, *, categories: int = 2, value: float = 0.0) -> Logits:
    full = np.full
    return Logits(full(n, value, np.float32), full((n, categories), value, np.float32), full((n, 3), value, np.float32))


# --- OnnxBackend


def test_onnx_runs_the_rule(tiny_bundle: Path) -> None:
    ids = np.array([[tiny.BOMB, tiny.CAKE, 1], [tiny.HABARI, tiny.BOMB, tiny.BOMB]])
    mask = np.array([[1, 1, 0], [1, 1, 1]])
    found = OnnxBackend(tiny_bundle / MODEL, threads=1).run(ids, mask)
    assert found.unsafe.tolist() == [4, 12]
    assert found.language.tolist() == [[2, 0], [2, 4]]
    for got, expected in zip(found, tiny.RuleBackend().run(ids, mask), strict=True):
        assert np.array_equal(got, expected)
        assert got.dtype == np.float32


def test_a_failing_run_is_a_backend_error(tiny_bundle: Path) -> None:
    with pytest.raises(BackendError, match="onnxruntime failed on a batch"):
        OnnxBackend(tiny_bundle / MODEL).run(np.array([[10**6]]), np.array([[1]]))


def test_a_file_that_is_no_model_is_a_bundle_error(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    for name in ("broken.onnx", "missing.onnx"):
        with pytest.raises(BundleError, match=f"{name} cannot be opened by onnxruntime"):
            OnnxBackend(tmp_path / name)


def test_a_model_with_other_outputs_is_a_bundle_error(tiny_bundle: Path, tmp_path: Path) -> None:
    model = onnx.load(str(tiny_bundle / MODEL))
    del model.graph.output[2]
    onnx.save(model, str(tmp_path / "other.onnx"))
    with pytest.raises(BundleError, match="a bundle's model maps"):
        OnnxBackend(tmp_path / "other.onnx")


# --- run_sorted


def test_answers_come_in_the_order_of_the_input() -> None:
    lengths = (5, 1, 9, 2, 2, 7, 100, 3, 4)
    found = run_sorted(tiny.RuleBackend(), sequences(*lengths), pad_id=PAD_ID)
    assert found.unsafe.tolist() == [8 * (n % 3) - 4 for n in lengths]
    assert found.category.shape == (9, 14)
    assert found.language.shape == (9, 2)


def test_batches_pad_little() -> None:
    stub = tiny.RuleBackend()
    lengths = list(range(1, 129)) * 3
    run_sorted(stub, sequences(*lengths), pad_id=PAD_ID, max_batch_tokens=1024)
    assert len(stub.shapes) < len(lengths) / 3
    assert sum(rows * width for rows, width in stub.shapes) <= 1.12 * sum(lengths)
    assert all(rows * width <= 1024 for rows, width in stub.shapes)


def test_a_few_short_texts_share_a_batch_in_spite_of_padding() -> None:
    stub = tiny.RuleBackend()
    run_sorted(stub, sequences(8, 4, 4), pad_id=PAD_ID)
    assert stub.shapes == [(3, 8)]


def test_a_sequence_longer_than_a_batch_runs_alone() -> None:
    stub = tiny.RuleBackend()
    run_sorted(stub, sequences(20, 20, 3), pad_id=PAD_ID, max_batch_tokens=10)
    assert stub.shapes == [(1, 20), (1, 20), (1, 3)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_logit_that_is_not_finite_is_an_error(value: float) -> None:
    with pytest.raises(BackendError, match="not finite"):
        run_sorted(Broken(logits(1, value=value)), sequences(1), pad_id=PAD_ID)


@pytest.mark.parametrize("answer", [logits(1), logits(3), Logits(*(part[:, None] for part in logits(2)))])
def test_a_wrong_shape_is_an_error(answer: Logits) -> None:
    with pytest.raises(BackendError, match=r"of shape .* for 2 sequences"):
        run_sorted(Broken(answer), sequences(1, 1), pad_id=PAD_ID)


def test_a_shape_that_changes_between_batches_is_an_error() -> None:
    with pytest.raises(BackendError, match="changed the shape"):
        run_sorted(Broken(logits(1), logits(1, categories=5)), sequences(90, 9), pad_id=PAD_ID)
