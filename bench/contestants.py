"""Who is measured: each name opens into one function, texts with their token ids in, scores out."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import xlmr

Scores = NDArray[np.floating[Any]]
Scorer = Callable[[Sequence[str], Sequence[Sequence[int]]], Scores]

EXTRAS = {
    "onnx": "train",
    "torch": "train",
    "transformers": "bench",
    "profanity_check": "bench",
    "openvino": "",
}


@dataclass(frozen=True, slots=True)
class Contestant:
    """What can be measured.

    Attributes:
        open: Takes a path (of a model, where there is one) and the number of threads.
        needs: Modules that a base install lacks.
    """

    open: Callable[[str | None, int], Scorer]
    needs: tuple[str, ...] = ()


def missing(name: str) -> str | None:
    """Say what must be installed before a contestant can be opened, or None."""
    absent = [module for module in CONTESTANTS[name].needs if importlib.util.find_spec(module) is None]
    if not absent:
        return None
    extras = sorted({EXTRAS[module] for module in absent} - {""})
    wanted = [f"'crest-guard[{','.join(extras)}]'"] * bool(extras) + [m for m in absent if not EXTRAS[m]]
    return f"lacks {', '.join(absent)}; pip install {' '.join(wanted)}"


def _crest(path: str | None, threads: int) -> Scorer:
    """Open the whole guard: it is given text and returns verdicts."""
    from crest import Guard

    guard = Guard.from_pretrained(path, threads=threads)
    return lambda texts, _ids: np.array([verdict.score for verdict in guard.check(texts)])


def _transformers(_path: str | None, threads: int) -> Scorer:
    import torch

    torch.set_num_threads(threads)
    model = xlmr.build()

    def score(_texts: Sequence[str], ids: Sequence[Sequence[int]]) -> Scores:
        with torch.inference_mode():
            batch = {name: torch.from_numpy(values) for name, values in xlmr.pad(ids).items()}
            logits: Scores = model(**batch).logits.numpy()
        return logits[:, 1] - logits[:, 0]

    return score


def _onnxruntime(path: str | None, threads: int) -> Scorer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    first = session.get_outputs()[0].name
    return lambda _texts, ids: np.asarray(session.run([first], xlmr.pad(ids))[0]).reshape(len(ids), -1)[:, -1]


def _openvino(path: str | None, threads: int, *, precision: str) -> Scorer:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    request = compiled.create_infer_request()
    output = compiled.output("unsafe")
    return lambda _texts, ids: np.array(request.infer(xlmr.pad(ids))[output])


def _openvino_f32(path: str | None, threads: int) -> Scorer:
    return _openvino(path, threads, precision="f32")


def _openvino_bf16(path: str | None, threads: int) -> Scorer:
    return _openvino(path, threads, precision="bf16")


def _profanity(_path: str | None, _threads: int) -> Scorer:
    from profanity_check import predict_prob

    return lambda texts, _ids: np.asarray(predict_prob(list(texts)))


CONTESTANTS = {
    "crest": Contestant(_crest),
    "xlmr-base-fp32": Contestant(_transformers, needs=("torch", "transformers")),
    "xlmr-base-int8": Contestant(_onnxruntime, needs=("onnx", "torch", "transformers")),
    "alt-profanity-check": Contestant(_profanity, needs=("profanity_check",)),
    "onnxruntime-f32": Contestant(_onnxruntime),
    "onnxruntime-int8": Contestant(_onnxruntime),
    "openvino-f32": Contestant(_openvino_f32, needs=("openvino",)),
    "openvino-bf16": Contestant(_openvino_bf16, needs=("openvino",)),
    "openvino-int8": Contestant(_openvino_bf16, needs=("openvino",)),  # what is not in 8 bits runs in bfloat16
}


def file_mb(path: Path) -> float:
    """Return the size of a model file with the weights beside it, in MB."""
    return sum(each.stat().st_size for each in (path, path.with_suffix(".bin")) if each.exists()) / 1e6
