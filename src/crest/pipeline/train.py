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
from crest.pipeline.examples import LANGUAGES, UNKNOWN, Examples, batches, stack_ids, tokenise
from crest.pipeline.optimiser import Optimiser
from crest.pipeline.quantise import choose_ranges, round_inputs
from crest.pipeline.recipe import Recipe, TrainSettings
from crest.pipeline.sources import read_rows
from crest.taxonomy import CATEGORIES

RANGE_BATCHES = 60
Step = tuple[NDArray[np.int64], ...]  # the rows of a safety batch, then those of language batches (none, as a rule one)


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
    safety, language = (
        tokenise(read_rows(assembled / f"{name}.jsonl"), tokenizer, max_tokens=settings.max_tokens)
        for name in ("train", "language")
    )
    heads = Heads(len(CATEGORIES), len(LANGUAGES), settings.language_layer)
    model = load_encoder(encoder, heads, pieces=np.load(assembled / "pieces.npy"), dropout=settings.dropout)
    model.to(torch.bfloat16 if settings.bf16 else torch.float32).train()
    run = Run(model, safety, language, settings, out)
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
    save_file(run.finish(), out / "model.safetensors")
    (out / "checkpoint.pt").unlink(missing_ok=True)


class Run:
    """A training run that can be saved and continued.

    Args:
        model: The working copy.
        safety: Labelled examples.
        language: Examples for the language head.
        settings: How to train.
        out: Folder of the checkpoint and the ranges.
    """

    def __init__(
        self, model: Encoder, safety: Examples, language: Examples, settings: TrainSettings, out: Path
    ) -> None:
        self.model, self.safety, self.language, self.settings, self.out = model, safety, language, settings, out
        steps = [*plan(safety, language, settings)]
        self.steps = steps[: math.ceil(len(steps) * settings.epochs / math.ceil(settings.epochs))]
        self.optimiser = Optimiser(model, settings, steps=len(self.steps))
        self.rows_a_step = len(safety.ids) * settings.epochs / len(self.steps)
        self.rounded_from = math.ceil(settings.quantise_from * len(self.steps))

    def step(self, number: int) -> tuple[float, int]:
        """Take one step; return the mean loss of its labelled texts, and how many tokens were read."""
        if number == self.rounded_from:
            round_inputs(self.model, self._write_ranges())
        rows, *spoken = self.steps[number]
        loss = loss_of(self.model, self.safety, rows, self.settings)
        total = loss
        for each in spoken:
            logits = self.model.tell_language(_read(self.language, each, self.settings))
            total = total + self.settings.language_weight * _language_loss(logits, self.language, each)
        torch.autograd.backward(total / self.rows_a_step)
        self.optimiser.step(number)
        value = loss.item() / len(rows)
        if not math.isfinite(value):
            raise BackendError(
                f"the loss is {value} at step {number}; lower learning_rate, delete {self.out}, run again"
            )
        read = [self.safety.ids[rows[0]].size * rows.size, *(self.language.ids[r[0]].size * r.size for r in spoken)]
        return value, sum(read)

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

    def finish(self) -> dict[str, Tensor]:
        """Return the averaged weights under their names; choose the ranges if training did not."""
        if self.rounded_from >= len(self.steps):
            self.optimiser.use_average()
            self._write_ranges()
        return dict(zip(self.optimiser.names, self.optimiser.average, strict=True))

    def _write_ranges(self) -> list[dict[str, tuple[float, float]]]:
        samples = (torch.from_numpy(stack_ids(self.safety, rows)) for rows, *_ in self.steps[-RANGE_BATCHES:])
        ranges = choose_ranges(self.model, samples, rng=np.random.default_rng(self.settings.seed))
        (self.out / "ranges.json").write_text(json.dumps(ranges) + "\n", encoding="utf-8")
        return ranges


def plan(safety: Examples, language: Examples, settings: TrainSettings) -> Iterator[Step]:
    """Yield, for each step of each epoch, the rows of a safety batch and those of a language batch (maybe none)."""
    lengths = [np.array([len(ids) for ids in each.ids], dtype=np.int64) for each in (safety, language)]
    for epoch in range(math.ceil(settings.epochs)):
        rng = np.random.default_rng([settings.seed, epoch])
        first, second = (batches(each, batch_tokens=settings.batch_tokens, rng=rng) for each in lengths)
        spread = np.linspace(0, len(first), len(second), endpoint=False).astype(np.int64)
        extra: dict[int, list[NDArray[np.int64]]] = {}
        for place, batch in zip(spread.tolist(), second, strict=True):
            extra.setdefault(place, []).append(batch)
        for place, batch in enumerate(first):
            yield (batch, *extra.get(place, []))


def loss_of(model: Encoder, examples: Examples, rows: NDArray[np.int64], settings: TrainSettings) -> Tensor:
    """Return the summed loss of labelled texts: unsafe and category (binary), language (softmax), where known."""
    output = model(_read(examples, rows, settings))
    smooth = settings.label_smoothing
    unsafe = torch.from_numpy(examples.unsafe[rows]).float() * (1 - smooth) + smooth / 2
    category = torch.from_numpy(examples.category[rows])
    known = category != UNKNOWN
    target = functional.one_hot(category[known], len(CATEGORIES) + 1)[:, :-1]
    loss = _binary(output.unsafe, unsafe) + settings.category_weight * _binary(output.category[known], target.float())
    return loss + settings.language_weight * _language_loss(output.language, examples, rows)


def _read(examples: Examples, rows: NDArray[np.int64], settings: TrainSettings) -> Tensor:
    """Return the token ids of rows of one length, with some of them hidden."""
    ids = torch.from_numpy(stack_ids(examples, rows))
    if settings.token_dropout:
        ids = ids.masked_fill((torch.rand(ids.shape) < settings.token_dropout) & (ids > UNK_ID), UNK_ID)
    return ids


def _language_loss(logits: Tensor, examples: Examples, rows: NDArray[np.int64]) -> Tensor:
    language = torch.from_numpy(examples.language[rows])
    return functional.cross_entropy(logits.float(), language, ignore_index=UNKNOWN, reduction="sum")


def _binary(logits: Tensor, target: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="sum")
