"""Fine-tune an encoder on the assembled rows: batches of one length, bfloat16, a moving average of the weights.

Reads the folder that `assemble` wrote; writes `model.safetensors` (float32, the average), `ranges.json` (the 8-bit
range of each product's input), `log.jsonl` and, while it runs, `checkpoint.pt`, from which a killed run goes on.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from crest.encode import UNK_ID, Tokenizer
from crest.errors import BackendError
from crest.pipeline.encoder import Encoder, Heads, load_encoder
from crest.pipeline.examples import LANGUAGES, UNKNOWN, Examples, batches, join, stack_ids, tokenise
from crest.pipeline.language_head import fit_language_head
from crest.pipeline.optimiser import Optimiser
from crest.pipeline.quantise import choose_ranges, round_inputs
from crest.pipeline.recipe import Recipe, TrainSettings
from crest.pipeline.sources import read_rows
from crest.taxonomy import CATEGORIES

RANGE_BATCHES = 60


def train(recipe: Recipe, *, assembled: Path, encoder: Path, out: Path) -> None:
    """Fine-tune the encoder.

    Args:
        recipe: The recipe.
        assembled: Folder that `assemble` wrote.
        encoder: Hugging Face folder of the encoder.
        out: Where to write; a checkpoint found there is continued.

    Raises:
        BackendError: If the loss is no longer a number.
    """
    from safetensors.torch import save_file
    from tqdm import tqdm

    settings = recipe.train
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    tokenizer = Tokenizer(assembled / "tokenizer.model")
    rows = {name: read_rows(assembled / f"{name}.jsonl") for name in ("train", "language")}
    safety, language = (tokenise(each, tokenizer, max_tokens=settings.max_tokens) for each in rows.values())
    heads = Heads(len(CATEGORIES), len(LANGUAGES), settings.language_layer)
    model = load_encoder(encoder, heads, pieces=np.load(assembled / "pieces.npy"), dropout=settings.dropout)
    model.to(torch.bfloat16 if settings.bf16 else torch.float32).train()
    run = Run(model, safety, settings, out)
    done = run.resume()
    bar = tqdm(total=len(run.steps), initial=done, unit="step", desc=f"train {recipe.name}", mininterval=2.0)
    saved = time.monotonic()
    with (out / "log.jsonl").open("a", encoding="utf-8", buffering=1) as log:
        for number in range(done, len(run.steps)):
            begin = time.perf_counter()
            loss, tokens = run.step(number)
            seconds = time.perf_counter() - begin
            log.write(json.dumps({"step": number, "loss": loss, "seconds": seconds, "tokens": tokens}) + "\n")
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update()
            if time.monotonic() - saved > settings.checkpoint_s:
                run.save(done=number + 1)
                saved = time.monotonic()
    bar.close()
    save_file(run.finish(language), out / "model.safetensors")
    (out / "checkpoint.pt").unlink(missing_ok=True)


class Run:
    """A training run that can be saved and continued.

    Args:
        model: The working copy.
        safety: Labelled examples.
        settings: How to train.
        out: Folder of the checkpoint and the ranges.
    """

    def __init__(self, model: Encoder, safety: Examples, settings: TrainSettings, out: Path) -> None:
        self.model, self.safety, self.settings, self.out = model, safety, settings, out
        steps = [*plan(safety, settings)]
        self.steps = steps[: math.ceil(len(steps) * settings.epochs / math.ceil(settings.epochs))]
        self.optimiser = Optimiser(model, settings, steps=len(self.steps))
        self.rows_a_step = len(safety.ids) * settings.epochs / len(self.steps)
        self.rounded_from = math.ceil(settings.quantise_from * len(self.steps))

    def step(self, number: int) -> tuple[float, int]:
        """Take one step; return the mean loss of its texts, and how many tokens were read."""
        if number == self.rounded_from:
            round_inputs(self.model, self._write_ranges())
        rows = self.steps[number]
        loss = loss_of(self.model, self.safety, rows, self.settings)
        torch.autograd.backward(loss / self.rows_a_step)
        self.optimiser.step(number)
        value = loss.item() / len(rows)
        if not math.isfinite(value):
            raise BackendError(
                f"the loss is {value} at step {number}; lower learning_rate, delete {self.out}, run again"
            )
        return value, self.safety.ids[rows[0]].size * rows.size

    def save(self, *, done: int) -> None:
        """Write a checkpoint, then put it in place at once, so that a kill leaves the old one or the new one."""
        part = self.out / "checkpoint.part"
        torch.save({"done": done, "random": torch.get_rng_state(), **self.optimiser.state()}, part)
        part.replace(self.out / "checkpoint.pt")

    def resume(self) -> int:
        """Continue from a checkpoint, if there is one; return the number of steps done."""
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return 0
        state = torch.load(path, weights_only=True)
        self.optimiser.restore(state)
        torch.set_rng_state(state["random"])
        done: int = state["done"]
        if done > self.rounded_from:
            round_inputs(self.model, json.loads((self.out / "ranges.json").read_text(encoding="utf-8")))
        return done

    def finish(self, language: Examples) -> dict[str, Tensor]:
        """Return the averaged weights under their names, with the language head fitted.

        Args:
            language: Sentences whose language is known; the labelled examples are used as well.
        """
        self.optimiser.use_average()
        self.model.eval()
        if self.rounded_from >= len(self.steps):
            self._write_ranges()
        weights = dict(zip(self.optimiser.names, self.optimiser.average, strict=True))
        rng = np.random.default_rng(self.settings.seed)
        weight, bias = fit_language_head(
            self.model, join(language, self.safety), epochs=self.settings.language_epochs, rng=rng
        )
        return weights | {"language.weight": weight, "language.bias": bias}

    def _write_ranges(self) -> list[dict[str, tuple[float, float]]]:
        samples = (torch.from_numpy(stack_ids(self.safety, rows)) for rows in self.steps[-RANGE_BATCHES:])
        ranges = choose_ranges(self.model, samples, rng=np.random.default_rng(self.settings.seed))
        (self.out / "ranges.json").write_text(json.dumps(ranges) + "\n", encoding="utf-8")
        return ranges


def plan(safety: Examples, settings: TrainSettings) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of each step, epoch after epoch."""
    lengths = np.array([len(ids) for ids in safety.ids], dtype=np.int64)
    for epoch in range(math.ceil(settings.epochs)):
        yield from batches(
            lengths, batch_tokens=settings.batch_tokens, rng=np.random.default_rng([settings.seed, epoch])
        )


def loss_of(model: Encoder, examples: Examples, rows: NDArray[np.int64], settings: TrainSettings) -> Tensor:
    """Return the summed loss of a batch: unsafe, and the category where it is known, both binary."""
    ids = torch.from_numpy(stack_ids(examples, rows))
    if settings.token_dropout:
        ids = ids.masked_fill((torch.rand(ids.shape) < settings.token_dropout) & (ids > UNK_ID), UNK_ID)
    output = model(ids)
    smooth = settings.label_smoothing
    unsafe = torch.from_numpy(examples.unsafe[rows]).float() * (1 - smooth) + smooth / 2
    category = torch.from_numpy(examples.category[rows])
    known = category != UNKNOWN
    target = functional.one_hot(category[known], len(CATEGORIES) + 1)[:, :-1]
    category_loss = _binary(output.category[known], target.float())
    return _binary(output.unsafe, unsafe) + settings.category_weight * category_loss


def _binary(logits: Tensor, target: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="sum")
