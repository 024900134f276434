"""Time a training step: ours beside transformers' BertModel under autocast, and beside the floor of the machine.

    python bench/training.py [--out FILE]

Both have the embedded encoder's shape with random weights, a frozen vocabulary and the same batch: 96 texts of
35 tokens.
The floor is the step's matrix products at the speed that this machine reaches in bfloat16.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from crest.pipeline.encoder import Encoder, Heads, Shape
from crest.pipeline.examples import LANGUAGES, Examples
from crest.pipeline.optimiser import Optimiser
from crest.pipeline.recipe import TrainSettings
from crest.pipeline.train import loss_of
from crest.taxonomy import CATEGORIES

TEXTS, TOKENS, PIECES, ROUNDS = 96, 35, 20_000, 8
SHAPE = Shape(hidden=384, layers=12, heads=12, inner=1536, positions=512, first_position=0, epsilon=1e-12)


def main() -> None:
    """Measure in turns, print a table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the figures here, as JSON")
    out = parser.parse_args().out
    torch.manual_seed(0)
    steps = {"transformers, autocast": their_step(), "crest": our_step()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - begin)
    operations = 6 * TEXTS * TOKENS * SHAPE.layers * (4 * SHAPE.hidden**2 + 2 * SHAPE.hidden * SHAPE.inner)
    speed = product_speed()
    figures = {
        "texts": TEXTS,
        "tokens": TOKENS,
        "rounds": ROUNDS,
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "bf16_tflops": round(speed / 1e12, 2),
        "floor_s": round(operations / speed, 3),
        "median_s": {name: round(median(each[1:]), 3) for name, each in seconds.items()},
    }
    times = [median(each[1:]) for each in seconds.values()]
    figures["ratio"] = round(times[0] / times[1], 2)
    print(json.dumps(figures, indent=1))
    if out:
        out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def their_step() -> Callable[[], None]:
    """Return a step of transformers' BertModel: float32 weights, bfloat16 autocast, its usual dropout."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=PIECES,
        hidden_size=SHAPE.hidden,
        num_hidden_layers=SHAPE.layers,
        num_attention_heads=SHAPE.heads,
        intermediate_size=SHAPE.inner,
    )
    model = BertModel(config, add_pooling_layer=False).train()
    model.embeddings.word_embeddings.weight.requires_grad_(False)
    head = torch.nn.Linear(SHAPE.hidden, 1 + len(CATEGORIES))
    values = [each for each in (*model.parameters(), *head.parameters()) if each.requires_grad]
    adam = torch.optim.AdamW(values, lr=1e-5)
    ids = torch.randint(5, PIECES, (TEXTS, TOKENS))
    mask = torch.ones_like(ids)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            logits = head(model(input_ids=ids, attention_mask=mask).last_hidden_state.mean(1))
        torch.nn.functional.softplus(logits.float()).mean().backward()
        torch.nn.utils.clip_grad_norm_(values, 1.0)
        adam.step()
        adam.zero_grad()

    return step


def our_step() -> Callable[[], None]:
    """Return a step of the pipeline's own loop."""
    heads = Heads(len(CATEGORIES), len(LANGUAGES), 4)
    model = Encoder(SHAPE, heads, vocabulary=torch.randn(PIECES, SHAPE.hidden) * 0.05, dropout=0.1)
    model.bfloat16().train()
    settings = TrainSettings(epochs=1, batch_tokens=TEXTS * TOKENS, learning_rate=1e-5)
    optimiser = Optimiser(model, settings, steps=1000)
    ids = np.random.default_rng(0).integers(5, PIECES, (TEXTS, TOKENS)).astype(np.int32)
    zeros = np.zeros(TEXTS, dtype=np.int64)
    examples = Examples([*ids], zeros, zeros, zeros)

    def step() -> None:
        (loss_of(model, examples, np.arange(TEXTS), settings) / TEXTS).backward()
        optimiser.step(500)

    return step


def product_speed() -> float:
    """Return the floating-point operations a second of a large product in bfloat16."""
    size = 2048
    a, b = (torch.randn(size, size).bfloat16() for _ in range(2))
    seconds = []
    for _ in range(10):
        begin = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - begin)
    return 2 * size**3 / min(seconds)


if __name__ == "__main__":
    main()
