"""Choose the 8-bit range of each product's input, and let training feel the rounding.

A fixed range for each input keeps a text's score independent of its neighbours in a batch. Ranges minimise the squared
error on real texts, so rare outliers are clipped; the last steps of training then teach the model to live with both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crest.pipeline.encoder import Encoder, Watcher, pass_on
from crest.pipeline.graph import LEVELS, SITES, Range, step_and_zero

_KEPT = 200_000  # most values of one input that a range is chosen on
_SHRINKS = np.geomspace(1.0, 0.02, 40)


WIDE = {"qkv": 8, "inner": 8, "outer": 64}


def widest_channels(model: Encoder, batches: Iterable[Tensor]) -> list[dict[str, list[int]]]:
    """Return, for each layer, the channels of an input that reach furthest; they stay in float32 (at most 1 in 8).

    A few channels reach ten times as far as the rest, always the same ones; one 8-bit range cannot hold both.
    """
    peaks: list[dict[str, Tensor]] = [{} for _ in model.stack()]

    def watch(layer: int) -> Watcher:
        def at(site: str, x: Tensor) -> Tensor:
            peak = x.detach().abs().amax(0)
            peaks[layer][site] = torch.maximum(peaks[layer].get(site, peak), peak)
            return x

        return at

    _watch(model, batches, watch)
    return [
        {
            site: sites[site].topk(min(count, len(sites[site]) // 8)).indices.sort().values.tolist()
            for site, count in WIDE.items()
        }
        for sites in peaks
    ]


def _watch(model: Encoder, batches: Iterable[Tensor], watch: Callable[[int], Watcher]) -> None:
    """Run batches of token ids while something sees each layer's inputs."""
    training = model.training
    model.eval()
    try:
        for number, layer in enumerate(model.stack()):
            layer.at = watch(number)
        with torch.no_grad():
            for ids in batches:
                model(ids)
    finally:
        release(model)
        model.train(training)


def choose_ranges(
    model: Encoder,
    batches: Iterable[Tensor],
    *,
    rng: np.random.Generator,
    wide: Sequence[Mapping[str, Sequence[int]]] | None = None,
) -> list[dict[str, Range]]:
    """Return, for each layer and input, the range with the least squared rounding error on batches of token ids.

    Args:
        model: The encoder.
        batches: Token ids of texts of one length each.
        rng: Draws the values that ranges are chosen on.
        wide: For each layer and input the channels that are not rounded; none by default.
    """
    seen: list[dict[str, list[NDArray[np.float32]]]] = [{site: [] for site in SITES} for _ in model.stack()]
    peaks: list[dict[str, Range]] = [dict.fromkeys(SITES, (0.0, 0.0)) for _ in model.stack()]

    def watch(layer: int) -> Watcher:
        def at(site: str, x: Tensor) -> Tensor:
            kept = wide[layer].get(site, ()) if wide else ()
            narrow = np.setdiff1d(np.arange(x.shape[1]), kept)
            values = x.detach()[:, narrow].float().flatten()
            low, high = peaks[layer][site]
            peaks[layer][site] = (min(low, float(values.min())), max(high, float(values.max())))
            seen[layer][site].append(values[rng.integers(0, len(values), 20_000)].numpy())
            return x

        return at

    _watch(model, batches, watch)
    return [
        {site: _best(_spread(np.concatenate(values)), peaks[layer][site]) for site, values in sites.items()}
        for layer, sites in enumerate(seen)
    ]


def round_inputs(model: Encoder, ranges: Sequence[Mapping[str, Range]]) -> None:
    """Make each layer round its products' inputs to 8 bits; gradients pass through where nothing is clipped."""
    for layer, sites in zip(model.stack(), ranges, strict=True):
        layer.at = _rounder(sites)


def release(model: Encoder) -> None:
    """Stop watching and rounding."""
    for layer in model.stack():
        layer.at = pass_on


def _rounder(sites: Mapping[str, Range]) -> Watcher:
    steps = {site: step_and_zero(*each) for site, each in sites.items()}

    def at(site: str, x: Tensor) -> Tensor:
        step, zero = steps[site]
        return torch.fake_quantize_per_tensor_affine(x, step, zero, 0, LEVELS)

    return at


def _spread(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Thin values out evenly, so that each batch has its share."""
    return values[:: -(-len(values) // _KEPT)]


def _best(values: NDArray[np.float32], peak: Range) -> Range:
    """Return the range with the least squared error; both ends shrink together, but never below what most values need.

    Bounds far smaller than the rest, such as the -0.17 of GELU, stay as they are.
    """
    low, high = peak
    least, best = np.inf, peak
    for shrink in _SHRINKS:
        limit = max(-low, high) * shrink
        candidate = (max(low, -limit), min(high, limit))
        step, zero = step_and_zero(*candidate)
        rounded = (np.clip(np.rint(values / step) + zero, 0, LEVELS) - zero) * step
        error = float(np.square(rounded - values).sum())
        if error < least:
            least, best = error, candidate
    return best
