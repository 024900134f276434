"""The ONNX graph: it says what torch says, whatever else is in the batch."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from crest.backend import Logits, OnnxBackend, run_sorted
from crest.encode import PAD_ID
from crest.pipeline.encoder import Encoder
from crest.pipeline.graph import (
    BLOCK,
    Weights,
    build_graph,
    pack_vocabulary,
    quantise_columns,
    step_and_zero,
    write_graph,
)
from crest.pipeline.quantise import choose_ranges
from lab import HEADS, PIECES, SHAPE, encoder, ids

LENGTHS = (2, 3, 9, 20, 32)


def unpack(packed: NDArray[np.uint8], steps: NDArray[np.float16]) -> NDArray[np.float32]:
    """Undo `pack_vocabulary` by the book: two's complement nibbles, low one first, times the block's step."""
    nibbles = np.stack([packed & 15, packed >> 4], axis=-1).astype(np.int32).reshape(len(steps), -1, BLOCK)
    values = np.where(nibbles > 7, nibbles - 16, nibbles)
    made: NDArray[np.float32] = (values * steps.astype(np.float32)[..., None]).reshape(len(steps), -1)
    return made


def four_bits(rows: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Vectors that were stored in 4 bits before."""
    rng = np.random.default_rng(seed)
    steps = rng.uniform(0.01, 0.3, (rows, 2)).astype(np.float16).astype(np.float32)
    levels = rng.integers(-8, 8, (rows, 2, BLOCK)).astype(np.float32)
    made: NDArray[np.float32] = (levels * steps[..., None]).reshape(rows, -1)
    return made


class Made(NamedTuple):
    model: Encoder
    backend: OnnxBackend
    folder: Path

    def run(self, tokens: NDArray[np.int64], *, padding: int = 0) -> Logits:
        mask = np.ones_like(tokens)
        wide = ((0, 0), (0, padding))
        return self.backend.run(np.pad(tokens, wide, constant_values=PAD_ID), np.pad(mask, wide))

    def expected(self, tokens: NDArray[np.int64]) -> Logits:
        with torch.no_grad():
            output = self.model(torch.from_numpy(tokens))
        return Logits(output.unsafe.numpy(), output.category.numpy(), output.language.numpy())


def make(folder: Path, *, quantised: bool) -> Made:
    model = encoder(vocabulary=torch.from_numpy(four_bits(PIECES)))
    tensors = {name: value.numpy() for name, value in model.state_dict().items()}
    ranges = None
    if quantised:
        batches = (ids(16, length, seed=length) for length in LENGTHS)
        ranges = choose_ranges(model, batches, rng=np.random.default_rng(0))
    graph = build_graph(Weights(SHAPE, HEADS, tensors, model.vocabulary.numpy()), ranges=ranges)
    write_graph(graph, folder)
    return Made(model, OnnxBackend(folder / "model.onnx", threads=1), folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("plain"), quantised=False)


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("quantised"), quantised=True)


@pytest.fixture(params=["plain", "quantised"])
def graph(request: pytest.FixtureRequest) -> Made:
    made: Made = request.getfixturevalue(request.param)
    return made


def furthest(first: Logits, second: Logits) -> float:
    return max(float(np.abs(one - other).max()) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("length", LENGTHS)
def test_the_plain_graph_equals_torch(plain: Made, length: int) -> None:
    tokens = ids(5, length).numpy()
    assert furthest(plain.run(tokens), plain.expected(tokens)) < 1e-5


@pytest.mark.parametrize("length", LENGTHS)
def test_the_quantised_graph_is_near_torch(quantised: Made, length: int) -> None:
    tokens = ids(50, length, seed=7).numpy()
    expected = quantised.expected(tokens)
    found = quantised.run(tokens)
    assert furthest(found, expected) < 0.03
    assert float(np.abs(found.unsafe - expected.unsafe).mean()) < 0.01


def test_scores_differ_between_texts_by_more_than_rounding(plain: Made) -> None:
    assert plain.run(ids(50, 9).numpy()).unsafe.std() > 0.1


@pytest.mark.parametrize("padding", [1, 12])
def test_padding_changes_no_score(graph: Made, padding: int) -> None:
    tokens = ids(5, 9).numpy()
    assert furthest(graph.run(tokens), graph.run(tokens, padding=padding)) < 1e-3


def test_what_stands_in_the_padding_does_not_matter(graph: Made) -> None:
    tokens = ids(5, 12).numpy()
    mask = np.ones_like(tokens)
    mask[:, 9:] = 0
    other = np.where(mask, tokens, 50)
    assert furthest(graph.backend.run(tokens, mask), graph.backend.run(other, mask)) == 0


def test_neighbours_in_a_batch_change_no_score(graph: Made) -> None:
    sequences = [ids(length, seed=place).numpy() for place, length in enumerate(LENGTHS * 6)]
    alone = run_sorted(graph.backend, sequences, pad_id=PAD_ID, max_batch_tokens=1)
    for tokens in (64, 4096):
        together = run_sorted(graph.backend, sequences, pad_id=PAD_ID, max_batch_tokens=tokens)
        assert furthest(alone, together) < 1e-3


def test_every_position_of_the_table_can_be_read(graph: Made) -> None:
    tokens = ids(2, SHAPE.positions - SHAPE.first_position).numpy()
    assert np.isfinite(graph.run(tokens).unsafe).all()


def test_the_graph_passes_the_checker(plain: Made) -> None:
    onnx.checker.check_model(str(plain.folder / "model.onnx"), full_check=True)


def test_weights_lie_beside_the_graph(graph: Made) -> None:
    sizes = {path.name: path.stat().st_size for path in graph.folder.iterdir()}
    assert set(sizes) == {"model.onnx", "model.bin"}
    assert sizes["model.bin"] > sizes["model.onnx"]


def test_a_graph_written_again_does_not_grow(quantised: Made, tmp_path: Path) -> None:
    for _ in range(2):
        made = make(tmp_path, quantised=True)
    for name in ("model.onnx", "model.bin"):
        assert (made.folder / name).read_bytes() == (quantised.folder / name).read_bytes()


def test_packing_loses_nothing_of_vectors_that_came_in_4_bits() -> None:
    vectors = four_bits(500)
    assert np.array_equal(unpack(*pack_vocabulary(vectors)), vectors)


def test_packing_takes_half_a_byte_a_number_and_two_bytes_a_block() -> None:
    packed, steps = pack_vocabulary(four_bits(10))
    assert packed.dtype == np.uint8 and packed.shape == (10 * 64 // 2,)
    assert steps.dtype == np.float16 and steps.shape == (10, 64 // BLOCK)


@pytest.mark.parametrize("scale", [1e-2, 1.0, 30.0])
def test_packing_is_near_for_other_vectors(scale: float) -> None:
    vectors = np.random.default_rng(1).normal(0, scale, (500, 64)).astype(np.float32)
    found = unpack(*pack_vocabulary(vectors))
    # A step of a 16th of the block's range would lose .09 of the deviation; the best step loses no more.
    assert float(np.sqrt(np.mean((found - vectors) ** 2))) < 0.1 * scale
    assert np.corrcoef(found.ravel(), vectors.ravel())[0, 1] > 0.99


def test_a_vector_of_zeros_stays_one() -> None:
    assert not unpack(*pack_vocabulary(np.zeros((3, 64), np.float32))).any()


def test_columns_are_rounded_by_half_a_step_of_their_own() -> None:
    weight = np.random.default_rng(2).normal(0, [0.001, 1, 50], (40, 3)).astype(np.float32)
    values, steps = quantise_columns(weight)
    assert values.dtype == np.int8 and steps.shape == (3,)
    assert (np.abs(values * steps - weight) <= steps * 0.5001).all()
    assert np.abs(values).max(axis=0).tolist() == [127, 127, 127]


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (-0.17, 9.0), (0.0, 4.0), (-3.0, 0.0)])
def test_zero_is_a_level_of_every_range(low: float, high: float) -> None:
    step, zero = step_and_zero(low, high)
    assert 0 <= zero <= 255
    assert (255 - zero) * step == pytest.approx(high, abs=step)
    assert -zero * step == pytest.approx(low, abs=step)
