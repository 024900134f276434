"""Run a model: token ids go in, raw logits come out, whatever the engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from crest.errors import BackendError, BundleError

MAX_BATCH_TOKENS = 2048
MAX_WASTE = 0.12
FREE_WASTE_TOKENS = 16  # about what one more call costs

INPUTS = ("input_ids", "attention_mask")
OUTPUTS = ("unsafe", "category", "language")


class Logits(NamedTuple):
    """What a model says about n sequences, before calibration.

    Attributes:
        unsafe: Shape (n,); above 0 is unsafe rather than safe.
        category: Shape (n, categories), each on its own.
        language: Shape (n, languages), to be read through a softmax.
    """

    unsafe: NDArray[np.float32]
    category: NDArray[np.float32]
    language: NDArray[np.float32]


class Backend(Protocol):
    """An engine that runs a model; several threads may call it at once."""

    def run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Logits:
        """Return the logits of a padded batch.

        Args:
            ids: Token ids, shape (n, tokens).
            mask: 1 for a token, 0 for padding, same shape.
        """
        ...


class OnnxBackend:
    """A model in ONNX Runtime, on the CPU.

    Args:
        path: The ONNX file: inputs `input_ids` and `attention_mask`, outputs `unsafe`, `category` and `language`.
        threads: CPU threads for one call; None lets ONNX Runtime use every core.

    Raises:
        BundleError: If the file is no such model.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        """Open the model."""
        import onnxruntime  # noqa: PLC0415  # `import crest` stays fast

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised, not printed
        options.inter_op_num_threads = 1
        options.intra_op_num_threads = threads or 0
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises a class of its own for each status code
            raise BundleError(
                f"{path} cannot be opened by onnxruntime {onnxruntime.__version__} ({_first_line(error)}); "
                "install the model again, or upgrade onnxruntime"
            ) from error
        inputs = tuple(each.name for each in self._session.get_inputs())
        outputs = tuple(each.name for each in self._session.get_outputs())
        if set(inputs) != set(INPUTS) or not set(OUTPUTS) <= set(outputs):
            raise BundleError(f"{path} maps {inputs} to {outputs}; a bundle's model maps {INPUTS} to {OUTPUTS}")

    def run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Logits:
        """Return the logits of a padded batch; see `Backend`.

        Raises:
            BackendError: If ONNX Runtime fails.
        """
        feed: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        try:
            unsafe, category, language = self._session.run(list(OUTPUTS), feed)
        except Exception as error:  # as above
            raise BackendError(f"onnxruntime failed on a batch of {ids.shape}: {_first_line(error)}") from error
        return Logits(unsafe, category, language)


def run_sorted(
    backend: Backend,
    sequences: Sequence[NDArray[np.integer[Any]]],
    *,
    pad_id: int,
    max_batch_tokens: int = MAX_BATCH_TOKENS,
) -> Logits:
    """Run sequences of any length in batches of similar length, and return the logits in the order of the input.

    Args:
        backend: What runs the batches.
        sequences: Token ids, at least one sequence.
        pad_id: Id that fills short rows.
        max_batch_tokens: Largest padded size of a batch; a longer sequence runs alone.

    Raises:
        BackendError: If the engine fails or returns anything but finite numbers of the right shape.
    """
    lengths = np.array([len(sequence) for sequence in sequences])
    order = np.argsort(-lengths, kind="stable")
    results = []
    for batch in _batches(lengths[order].tolist(), max_batch_tokens=max_batch_tokens):
        rows = [sequences[place] for place in order[batch]]
        ids = np.full((len(rows), len(rows[0])), pad_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, sequence in enumerate(rows):
            ids[row, : len(sequence)] = sequence
            mask[row, : len(sequence)] = 1
        results.append(_checked(backend.run(ids, mask), count=len(rows)))
    back = np.argsort(order, kind="stable")
    try:
        unsafe, category, language = (np.concatenate(parts)[back] for parts in zip(*results, strict=True))
    except ValueError as error:
        raise BackendError(f"the engine changed the shape of its answer between batches: {error}") from error
    return Logits(unsafe, category, language)


def _batches(lengths: Sequence[int], *, max_batch_tokens: int) -> Iterator[slice]:
    """Cut lengths, longest first, into batches that pad little."""
    begin = 0
    tokens = 0
    for place, length in enumerate(lengths):
        padded = (place - begin + 1) * lengths[begin]
        waste = padded - tokens - length
        if place > begin and (padded > max_batch_tokens or waste > max(MAX_WASTE * padded, FREE_WASTE_TOKENS)):
            yield slice(begin, place)
            begin = place
            tokens = 0
        tokens += length
    yield slice(begin, len(lengths))


def _checked(logits: Logits, *, count: int) -> Logits:
    """Refuse an answer that cannot be turned into scores."""
    for name, values, dimensions in zip(OUTPUTS, logits, (1, 2, 2), strict=True):
        if values.ndim != dimensions or values.shape[0] != count:
            raise BackendError(f"the engine returned {name} of shape {values.shape} for {count} sequences")
        if not np.isfinite(values).all():
            raise BackendError(f"the engine returned {name} that is not finite; no score can be made of it")
    return logits


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]
