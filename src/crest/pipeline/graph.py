"""Write an encoder as an ONNX graph: plain float32, or as the product runs it on a CPU.

The second form stores the vocabulary in blocks of 32 x 4 bits, multiplies in 8 bits with a fixed range for each input
(so that a text's score does not depend on its neighbours in a batch), and fuses bias, skip and normalisation by ONNX
Runtime's own operators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from crest.pipeline.encoder import Heads, Shape

Array = NDArray[Any]
Range = tuple[float, float]
SITES = ("qkv", "out", "inner", "outer")  # the inputs of a layer's four products
BLOCK = 32
LEVELS = 255
OPSET, IR_VERSION = 21, 10
EXTERNAL_BYTES = 1024  # smaller constants stay in model.onnx, where shape inference needs them


@dataclass(frozen=True, slots=True)
class Weights:
    """All that a graph is made of.

    Attributes:
        shape: Size of the encoder.
        heads: Size of the heads.
        tensors: The trained float32 tensors, under the names of `Encoder`.
        vocabulary: The token vectors, float32 (pieces, hidden).
    """

    shape: Shape
    heads: Heads
    tensors: Mapping[str, Array]
    vocabulary: Array


class _Builder:
    """Collects nodes and constants; each method returns the name of what it made."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._names: set[str] = set()

    def claim(self, name: str) -> bool:
        """Tell whether a name is new, and take it."""
        new = name not in self._names
        self._names.add(name)
        return new

    def constant(self, name: str, value: Array) -> str:
        if self.claim(name):
            self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], name: str, *, outputs: int = 1, **attributes: Any) -> str:
        domain = "com.microsoft" if kind in _CONTRIB else ""
        names = [name, *(f"{name}.{place}" for place in range(1, outputs))]
        self.nodes.append(helper.make_node(kind, inputs, names, name=name, domain=domain, **attributes))
        return name


_CONTRIB = frozenset(
    {
        "BiasGelu",
        "GatherBlockQuantized",
        "MatMulIntegerToFloat",
        "MultiHeadAttention",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
    }
)


def build_graph(
    weights: Weights,
    *,
    ranges: Sequence[Mapping[str, Range]] | None = None,
    wide: Sequence[Mapping[str, Sequence[int]]] | None = None,
) -> onnx.ModelProto:
    """Return the graph: `input_ids`, `attention_mask` (n, t) -> `unsafe` (n,), `category`, `language` (n, ...) logits.

    Args:
        weights: The trained model.
        ranges: For each layer the range of each product's input (keys: SITES). None gives the plain float32 graph.
        wide: For each layer the channels of an input whose part of the product stays in float32.
    """
    builder = _Builder()
    graph = _Quantised(builder, weights, ranges, wide) if ranges is not None else _Plain(builder, weights)
    mask = builder.node("Cast", ["attention_mask"], "mask", to=TensorProto.FLOAT)
    mask = builder.node("Unsqueeze", [mask, builder.constant("axis2", np.array([2]))], "mask3")
    count = builder.node("ReduceSum", [mask, builder.constant("axis1", np.array([1]))], "count", keepdims=0)
    x = graph.embed()
    for layer in range(weights.shape.layers + 1):
        x = graph.layer(x, layer - 1) if layer else x
        if layer == weights.heads.language_layer:
            _head(builder, weights, "language", _pool(builder, x, mask, count, "spoken"))
    pooled = _pool(builder, x, mask, count, "pooled")
    _head(builder, weights, "category", pooled)
    _head(builder, weights, "unsafe", pooled, squeeze=True)
    size = {"category": weights.heads.categories, "language": weights.heads.languages}
    outputs = [helper.make_tensor_value_info("unsafe", TensorProto.FLOAT, ["n"])]
    outputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]) for name, width in size.items()]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"]) for name in ("input_ids", "attention_mask")
    ]
    made = helper.make_graph(builder.nodes, "crest", inputs, outputs, builder.constants)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION, producer_name="crest")


def write_graph(model: onnx.ModelProto, folder: Path) -> None:
    """Write `model.onnx`, and the weights in `model.bin`, which ONNX Runtime maps into memory."""
    (folder / "model.bin").unlink(missing_ok=True)
    onnx.save_model(
        model,
        folder / "model.onnx",
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location="model.bin",
        size_threshold=EXTERNAL_BYTES,
    )
    (folder / "model.bin").chmod(0o644)  # onnx keeps it to its owner


class _Plain:
    """The float32 graph, in standard operators."""

    def __init__(self, builder: _Builder, weights: Weights) -> None:
        self.b, self.w = builder, weights

    def embed(self) -> str:
        b, w = self.b, self.w
        vectors = b.node("Gather", [b.constant("vocabulary", w.vocabulary), "input_ids"], "vectors")
        return self.normalise(b.node("Add", [vectors, self.positions()], "embedded"), "norm")

    def positions(self) -> str:
        """Return the rows of the position table for t tokens, (t, hidden)."""
        b, first = self.b, self.w.shape.first_position
        length = b.node("Shape", ["input_ids"], "length", start=1, end=2)
        table = b.constant("position", self.w.tensors["position"][first:])
        return b.node("Slice", [table, b.constant("zero", np.array([0])), length], "positions")

    def layer(self, x: str, number: int) -> str:
        front = f"layers.{number}."
        mixed = self.attention(self.dense(x, front + "qkv"), front)
        x = self.add_normalise(x, mixed, front + "out", front + "norm_attention")
        return self.add_normalise(x, self.gelu(x, front + "inner"), front + "outer", front + "norm")

    def dense(self, x: str, name: str, *, bias: bool = True) -> str:
        b, w = self.b, self.w
        product = b.node("MatMul", [x, b.constant(name + ".weight", w.tensors[name + ".weight"].T)], name)
        return b.node("Add", [product, self.bias(name)], name + "+") if bias else product

    def bias(self, name: str) -> str:
        return self.b.constant(name + ".bias", self.w.tensors[name + ".bias"])

    def gelu(self, x: str, name: str) -> str:
        return self.b.node("Gelu", [self.dense(x, name)], name + ".gelu")

    def add_normalise(self, x: str, inner: str, name: str, norm: str) -> str:
        return self.normalise(self.b.node("Add", [x, self.dense(inner, name)], norm + ".sum"), norm)

    def normalise(self, x: str, name: str) -> str:
        inputs = [x, *self.norm_constants(name)]
        return self.b.node("LayerNormalization", inputs, name, epsilon=self.w.shape.epsilon)

    def norm_constants(self, name: str) -> list[str]:
        return [self.b.constant(f"{name}.{part}", self.w.tensors[f"{name}.{part}"]) for part in ("weight", "bias")]

    def attention(self, qkv: str, front: str) -> str:
        b, shape = self.b, self.w.shape
        width = shape.hidden // shape.heads
        split = b.constant("heads", np.array([0, 0, 3 * shape.heads, width]))
        parts = b.node("Reshape", [qkv, split], front + "parts")
        parts = b.node("Transpose", [parts], front + "turned", perm=[0, 2, 1, 3])
        b.node("Split", [parts], front + "q", outputs=3, axis=1, num_outputs=3)
        keys = b.node("Transpose", [front + "q.1"], front + "keys", perm=[0, 1, 3, 2])
        products = b.node("MatMul", [front + "q", keys], front + "products")
        scale = b.constant("scale", np.array(width**-0.5, np.float32))
        scaled = b.node("Mul", [products, scale], front + "scaled")
        masked = b.node("Add", [scaled, self.hidden_keys()], front + "masked")
        mixed = b.node(
            "MatMul", [b.node("Softmax", [masked], front + "softmax", axis=-1), front + "q.2"], front + "mixed"
        )
        mixed = b.node("Transpose", [mixed], front + "mixed_turned", perm=[0, 2, 1, 3])
        return b.node("Reshape", [mixed, b.constant("joined", np.array([0, 0, shape.hidden]))], front + "joined")

    def hidden_keys(self) -> str:
        """Return what is added to attention scores: 0 for a token, -1e9 for padding, (n, 1, 1, t)."""
        b = self.b
        if b.claim("padding"):
            wide = b.node("Unsqueeze", ["mask", b.constant("axes12", np.array([1, 2]))], "mask4")
            less = b.node("Sub", [wide, b.constant("one", np.array(1, np.float32))], "mask_less")
            b.node("Mul", [less, b.constant("large", np.array(1e9, np.float32))], "padding")
        return "padding"


class _Quantised(_Plain):
    """The graph that the product runs."""

    def __init__(
        self,
        builder: _Builder,
        weights: Weights,
        ranges: Sequence[Mapping[str, Range]],
        wide: Sequence[Mapping[str, Sequence[int]]] | None,
    ) -> None:
        super().__init__(builder, weights)
        self.ranges, self.wide = ranges, wide
        builder.node("Cast", ["attention_mask"], "mask_int", to=TensorProto.INT32)

    def embed(self) -> str:
        b = self.b
        packed, scales = pack_vocabulary(self.w.vocabulary)
        table = helper.make_tensor("vocabulary", TensorProto.INT4, self.w.vocabulary.shape, packed.tobytes(), raw=True)
        b.constants.append(table)
        inputs = ["vocabulary", "input_ids", b.constant("vocabulary.scales", scales)]
        half = b.node("GatherBlockQuantized", inputs, "vectors16", block_size=BLOCK, gather_axis=0, quantize_axis=1)
        vectors = b.node("Cast", [half], "vectors", to=TensorProto.FLOAT)
        inputs = [vectors, self.positions(), *self.norm_constants("norm")]
        return b.node("SkipLayerNormalization", inputs, "norm", epsilon=self.w.shape.epsilon)

    def dense(self, x: str, name: str, *, bias: bool = True, centre: bool = False) -> str:
        b = self.b
        _, layer, site = name.split(".")
        low, high = self.ranges[int(layer)][site]
        scale, zero = step_and_zero(low, high)
        step = b.constant(name + ".step", np.array(scale, np.float32))
        point = b.constant(name + ".zero", np.array(zero, np.uint8))
        rounded = b.node("QuantizeLinear", [x, step, point], name + ".input")
        weight = self.w.tensors[name + ".weight"].T
        weight = weight - weight.mean(axis=1, keepdims=True) if centre else weight.copy()
        kept = list(self.wide[int(layer)].get(site, ())) if self.wide else []
        exact = weight[kept]
        weight[kept] = 0
        values, steps = quantise_columns(weight)
        inputs = [rounded, b.constant(name + ".weight", values), step, b.constant(name + ".steps", steps), point, ""]
        product = b.node("MatMulIntegerToFloat", inputs + [self.bias(name)] * bias, name)
        if not kept:
            return product
        channels = b.node("Gather", [x, b.constant(name + ".channels", np.array(kept))], name + ".wide", axis=-1)
        part = b.node("MatMul", [channels, b.constant(name + ".exact", exact)], name + ".part")
        return b.node("Add", [product, part], name + ".whole")

    def gelu(self, x: str, name: str) -> str:
        return self.b.node("BiasGelu", [self.dense(x, name, bias=False), self.bias(name)], name + ".gelu")

    def add_normalise(self, x: str, inner: str, name: str, norm: str) -> str:
        """Normalise a sum by its root mean square, with the mean taken out before.

        That is layer normalisation, by an operator that is several times faster. The mean of the product is zero, since
        its matrix is centred; the mean of x is subtracted.
        """
        b = self.b
        mean = b.node("ReduceMean", [x, b.constant("last", np.array([-1]))], norm + ".mean")
        centred = b.node("Sub", [x, mean], norm + ".centred")
        scale, shift = self.norm_constants(norm)
        bias = self.w.tensors[name + ".bias"]
        inputs = [self.dense(inner, name, bias=False, centre=True), centred, scale]
        inputs += [b.constant(name + ".bias", bias - bias.mean())]
        scaled = b.node("SkipSimplifiedLayerNormalization", inputs, norm + ".scaled", epsilon=self.w.shape.epsilon)
        return b.node("Add", [scaled, shift], norm)

    def attention(self, qkv: str, front: str) -> str:
        b = self.b
        b.node("Split", [qkv], front + "q", outputs=3, axis=2, num_outputs=3)
        inputs = [front + "q", front + "q.1", front + "q.2", "", "mask_int"]
        return b.node("MultiHeadAttention", inputs, front + "mixed", num_heads=self.w.shape.heads)


def step_and_zero(low: float, high: float) -> tuple[float, int]:
    """Return the size of a step of an 8-bit range, and the level that stands for zero."""
    step = (high - low) / LEVELS
    return step, round(-low / step)


def quantise_columns(weight: Array) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a (rows, columns) matrix to 8 bits with one step a column; return the values and the steps."""
    steps = np.maximum(np.abs(weight).max(axis=0), 1e-12).astype(np.float32) / 127
    return np.rint(weight / steps).astype(np.int8), steps


def pack_vocabulary(vectors: Array) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """Store token vectors in blocks of 32 x 4 bits with a float16 step; exact for vectors that came in that form.

    Returns:
        The nibbles, two a byte, low one first, (pieces x hidden / 2,); and the steps, (pieces, hidden / 32).
    """
    blocks = vectors.reshape(len(vectors), -1, BLOCK).astype(np.float32)
    peak = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=-1)[..., None], axis=-1)[..., 0]
    best = np.full(blocks.shape[:2], np.inf, np.float32)
    steps = np.zeros(blocks.shape[:2], np.float16)
    for level in (-8, -7, -6, -5, -4, -3, -2, -1, 7, 6, 5, 4, 3, 2, 1):
        step = (peak / level).astype(np.float16)
        wide = step.astype(np.float32)[..., None]
        rounded = np.clip(np.rint(np.divide(blocks, wide, out=np.zeros_like(blocks), where=wide != 0)), -8, 7)
        error = ((rounded * wide - blocks) ** 2).sum(axis=-1)
        better = error < best
        best, steps = np.where(better, error, best), np.where(better, step, steps)
    wide = steps.astype(np.float32)[..., None]
    values = np.clip(np.rint(np.divide(blocks, wide, out=np.zeros_like(blocks), where=wide != 0)), -8, 7)
    nibbles = (values.astype(np.int8).reshape(-1, 2) & 15).astype(np.uint8)
    return (nibbles[:, 0] | nibbles[:, 1] << 4).astype(np.uint8), steps.astype(np.float16)


def _pool(builder: _Builder, x: str, mask: str, count: str, name: str) -> str:
    """Return the mean over the tokens, (n, hidden)."""
    masked = builder.node("Mul", [x, mask], name + ".masked")
    total = builder.node("ReduceSum", [masked, builder.constant("axis1", np.array([1]))], name + ".sum", keepdims=0)
    return builder.node("Div", [total, count], name)


def _head(builder: _Builder, weights: Weights, name: str, pooled: str, *, squeeze: bool = False) -> None:
    matrix = builder.constant(name + ".weight", weights.tensors[name + ".weight"].T)
    bias = builder.constant(name + ".bias", weights.tensors[name + ".bias"])
    product = builder.node("MatMul", [pooled, matrix], name + ".product")
    added = builder.node("Add", [product, bias], name + ".sum" if squeeze else name)
    if squeeze:
        builder.node("Squeeze", [added, builder.constant("axis1", np.array([1]))], name)
