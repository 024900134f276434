"""The rival that the paper trains: XLM-R base with a head of two labels; random weights, since only speed counts here.

Run as a script, it exports the model to ONNX, fuses it with ONNX Runtime's own optimizer, quantises it to dynamic int8
and writes the result: `python bench/xlmr.py FILE`.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PAD_ID = 1
NAMES = ("input_ids", "attention_mask")


def build(*, attention: str = "sdpa") -> Any:
    """Return the model, float32, ready to score.

    Args:
        attention: Transformers' implementation; "sdpa" is its fastest on a CPU, "eager" is the one that exports well.
    """
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    config = XLMRobertaConfig(
        vocab_size=250002,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        num_labels=2,
        attn_implementation=attention,
    )
    torch.manual_seed(0)
    return XLMRobertaForSequenceClassification(config).eval()


def pad(ids: Sequence[Sequence[int]]) -> dict[str, NDArray[np.int64]]:
    """Fill a batch up to its longest text."""
    batch = np.full((len(ids), max(map(len, ids))), PAD_ID, dtype=np.int64)
    mask = np.zeros_like(batch)
    for row, each in enumerate(ids):
        batch[row, : len(each)] = each
        mask[row, : len(each)] = 1
    return dict(zip(NAMES, (batch, mask), strict=True))


def export_int8(path: Path) -> None:
    """Write the fused and quantised model."""
    import onnx
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model

    warnings.simplefilter("ignore")  # of the exporter, about itself
    ids = torch.full((2, 8), 5)
    with tempfile.TemporaryDirectory() as name:
        plain, fused = Path(name) / "plain.onnx", Path(name) / "fused.onnx"
        torch.onnx.export(
            build(attention="eager"),
            (ids, torch.ones_like(ids)),
            plain,
            input_names=list(NAMES),
            output_names=["logits"],
            dynamic_axes={each: {0: "n", 1: "t"} for each in NAMES},
            dynamo=False,
        )
        model = optimize_model(str(plain), model_type="bert", num_heads=12, hidden_size=768, opt_level=0)
        layers = model.get_fused_operator_statistics()["Attention"]
        if layers != 12:
            raise RuntimeError(
                f"the optimizer fused the attention of {layers} of 12 layers; this rival would be too slow"
            )
        model.save_model_to_file(str(fused), use_external_data_format=False)
        options = {"DefaultTensorType": onnx.TensorProto.FLOAT}  # shape inference does not know the fused operators
        quantize_dynamic(fused, path, per_channel=True, weight_type=QuantType.QInt8, extra_options=options)


if __name__ == "__main__":
    export_int8(Path(sys.argv[1]))
