"""The embedded model in the forms that other engines can read: float32, and standard 8-bit QuantizeLinear pairs.

Both are made from the embedded bundle itself, so they compute the same function and need no training run: the first
with its rounded weights but unrounded products, the second with exactly its ranges and steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from crest.pipeline.encoder import Heads, Shape
from crest.pipeline.graph import BLOCK, Weights, build_graph, quantise_columns, write_graph

Array = NDArray[Any]


def write_plain(bundle: Path, folder: Path) -> None:
    """Write the float32 graph of a bundle's model: `model.onnx` with its weights in `model.bin`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_graph(build_graph(_weights(onnx.load(bundle / "model.onnx"))), folder)


def write_pairs(bundle: Path, folder: Path) -> None:
    """Write the graph with each product between QuantizeLinear and DequantizeLinear, as OpenVINO and others read it."""
    folder.mkdir(parents=True, exist_ok=True)
    embedded = onnx.load(bundle / "model.onnx")
    constants = _constants(embedded)
    model = build_graph(_weights(embedded))
    initializers = {each.name: each for each in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        step, zero = constants.get(f"{node.name}.step"), constants.get(f"{node.name}.zero")
        if node.op_type == "MatMul" and step is not None and zero is not None:
            x, weight = node.input
            values, steps = quantise_columns(numpy_helper.to_array(initializers[weight]))
            initializers[weight].CopyFrom(numpy_helper.from_array(values, weight))
            made = {"step": step, "zero": zero, "steps": steps, "zeros": np.zeros(len(steps), np.int8)}
            names = {part: f"{node.name}.{part}" for part in made}
            model.graph.initializer.extend(numpy_helper.from_array(made[part], name) for part, name in names.items())
            pair = [names["step"], names["zero"]]
            columns = [names["steps"], names["zeros"]]
            rounded, read, wide = (f"{node.name}.{part}" for part in ("rounded", "read", "wide"))
            nodes += [
                helper.make_node("QuantizeLinear", [x, *pair], [rounded]),
                helper.make_node("DequantizeLinear", [rounded, *pair], [read]),
                helper.make_node("DequantizeLinear", [weight, *columns], [wide], axis=1),
            ]
            node.input[:] = [read, wide]
        nodes.append(node)
    made_nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(made_nodes)
    write_graph(model, folder)


def _weights(model: onnx.ModelProto) -> Weights:
    """Return the weights of the embedded graph as float32."""
    constants = _constants(model)
    nodes = {node.name: node for node in model.graph.node}
    scales = constants.pop("vocabulary.scales").astype(np.float32)
    packed = constants.pop("vocabulary").astype(np.float32)
    vocabulary = (packed.reshape(len(packed), -1, BLOCK) * scales[..., None]).reshape(len(packed), -1)
    tensors = {}
    for name, value in constants.items():
        steps = constants[name.removesuffix("weight") + "steps"] if value.dtype == np.int8 else np.float32(1)
        matrix = value.ndim == 2 and name.endswith(".weight")  # torch keeps (out, in), ONNX (in, out)
        tensors[name] = (value * steps).T if matrix else value
    layers = sum(name.endswith(".norm") for name in nodes)
    shape = Shape(
        hidden=vocabulary.shape[1],
        layers=layers,
        heads=_attributes(nodes["layers.0.mixed"])["num_heads"],
        inner=len(tensors["layers.0.inner.bias"]),
        positions=len(tensors["position"]),
        first_position=0,  # the rows before it were left out
        epsilon=_attributes(nodes["norm"])["epsilon"],
    )
    heads = Heads(
        categories=len(tensors["category.bias"]),
        languages=len(tensors["language.bias"]),
        language_layer=int(nodes["spoken.masked"].input[0].split(".")[1]) + 1,
    )
    return Weights(shape, heads, tensors, vocabulary)


def _constants(model: onnx.ModelProto) -> dict[str, Array]:
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def _attributes(node: onnx.NodeProto) -> Mapping[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}
