"""Training: the plan of an epoch, and that a killed run ends where an undisturbed one does."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from crest.errors import BackendError
from crest.pipeline.assemble import assemble
from crest.pipeline.encoder import pass_on
from crest.pipeline.examples import UNKNOWN
from crest.pipeline.recipe import TrainSettings, read_recipe
from crest.pipeline.train import Run, loss_of, plan, train
from lab import SHAPE, SMOKE, encoder, examples, settings, write_data

ROWS, SPOKEN = 60, 25

# --- The plan


@pytest.mark.parametrize("epochs", [1.0, 3.0])
@pytest.mark.parametrize("batch_tokens", [1, 48, 10_000])
def test_each_row_is_read_once_an_epoch(epochs: float, batch_tokens: int) -> None:
    steps = plan(examples(ROWS), settings(epochs=epochs, batch_tokens=batch_tokens))
    assert Counter(row for rows in steps for row in rows.tolist()) == dict.fromkeys(range(ROWS), int(epochs))


@pytest.mark.parametrize("batch_tokens", [1, 48, 10_000])
def test_a_batch_holds_texts_of_one_length_and_no_more_tokens_than_it_may(batch_tokens: int) -> None:
    made = examples(ROWS)
    for rows in plan(made, settings(batch_tokens=batch_tokens)):
        lengths = {len(made.ids[row]) for row in rows.tolist()}
        assert len(lengths) == 1
        assert len(rows) == 1 or len(rows) * lengths.pop() <= batch_tokens


def test_epochs_are_in_different_orders_and_the_seed_decides_which() -> None:
    both, again, other = ([rows.tolist() for rows in plan(examples(ROWS), settings(seed=seed))] for seed in (1, 1, 2))
    assert both == again != other
    assert both[: len(both) // 2] != both[len(both) // 2 :]


@pytest.mark.parametrize(("epochs", "share"), [(0.5, 0.5), (1.0, 1.0), (1.5, 0.75)])
def test_a_fraction_of_an_epoch_is_that_share_of_its_steps(epochs: float, share: float, tmp_path: Path) -> None:
    chosen = settings(epochs=epochs)
    whole = list(plan(examples(ROWS), chosen))
    assert len(fresh(tmp_path, chosen).steps) == math.ceil(share * len(whole))


# --- The loss


def test_the_loss_of_a_batch_is_the_sum_over_its_texts() -> None:
    model, rows, chosen = encoder(), examples(ROWS), settings(token_dropout=0.0)
    batch = next(plan(rows, chosen))
    together = loss_of(model, rows, batch, chosen)
    alone = [loss_of(model, rows, batch[place : place + 1], chosen) for place in range(len(batch))]
    assert len(alone) > 2
    assert together.item() == pytest.approx(sum(each.item() for each in alone), rel=1e-5)


def test_an_unknown_category_adds_nothing_to_the_loss() -> None:
    model, rows = encoder(), examples(ROWS)
    batch = np.array([0])
    rows.unsafe[0], rows.category[0] = 1, UNKNOWN
    found = loss_of(model, rows, batch, settings(token_dropout=0.0, label_smoothing=0.0))
    with torch.no_grad():
        logit = model(torch.from_numpy(rows.ids[0][None].astype(np.int64))).unsafe[0]
    assert found.item() == pytest.approx(float(-torch.nn.functional.logsigmoid(logit)), rel=1e-5)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    torch.manual_seed(1)
    run = fresh(tmp_path, settings(epochs=20.0, warmup_steps=0, token_dropout=0.0))
    losses = [run.step(number)[0] for number in range(len(run.steps))]
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:20])


def test_a_loss_that_is_no_number_stops_the_run_and_says_what_to_do(tmp_path: Path) -> None:
    run = fresh(tmp_path, settings(learning_rate=1e30, warmup_steps=0))
    told = r"the loss is (nan|inf) at step 1; lower learning_rate, delete .*, run again"
    with pytest.raises(BackendError, match=told):
        [run.step(number) for number in range(len(run.steps))]


# --- Checkpoints


def fresh(out: Path, chosen: TrainSettings) -> Run:
    """A run that has not begun; its small weights are always the same."""
    model = encoder(dropout=0.2).to(torch.bfloat16 if chosen.bf16 else torch.float32).train()
    return Run(model, examples(ROWS), chosen, out)


def finish(out: Path, chosen: TrainSettings, *, stop: int | None = None) -> dict[str, Tensor]:
    """Train to the end; at a step forget all but the checkpoint."""
    torch.manual_seed(1)
    run = fresh(out, chosen)
    for number in range(len(run.steps)):
        if number == stop:
            run.save(done=number)
            torch.manual_seed(99)
            run = fresh(out, chosen)
            assert run.resume() == number
        run.step(number)
    return run.finish(examples(SPOKEN, seed=1))


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class Reference(NamedTuple):
    settings: TrainSettings
    weights: dict[str, Tensor]
    ranges: str


@pytest.fixture(scope="module", params=[0.6, 1.0], ids=["rounded", "never-rounded"])
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """What an undisturbed run ends with; its 8-bit ranges are chosen at 60 % of the steps, or after the last."""
    folder, chosen = tmp_path_factory.mktemp("reference"), settings(quantise_from=request.param)
    return Reference(chosen, finish(folder, chosen), (folder / "ranges.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_a_continued_run_ends_with_exactly_the_same_weights(reference: Reference, share: float, tmp_path: Path) -> None:
    steps = len(fresh(tmp_path, reference.settings).steps)
    assert steps > 10
    found = finish(tmp_path, reference.settings, stop=math.ceil(share * steps))
    assert equal(found, reference.weights)
    assert (tmp_path / "ranges.json").read_text(encoding="utf-8") == reference.ranges


def test_another_seed_ends_with_other_weights(reference: Reference, tmp_path: Path) -> None:
    found = finish(tmp_path, settings(quantise_from=reference.settings.quantise_from, seed=2))
    assert not equal(found, reference.weights)


def test_a_run_without_a_checkpoint_begins_at_the_first_step(tmp_path: Path) -> None:
    assert fresh(tmp_path, settings()).resume() == 0


def test_a_checkpoint_half_written_is_not_read(tmp_path: Path) -> None:
    run = fresh(tmp_path, settings())
    run.step(0)
    run.save(done=1)
    (tmp_path / "checkpoint.part").write_bytes(b"half of a check")
    assert fresh(tmp_path, settings()).resume() == 1


def test_inputs_are_rounded_from_the_share_of_steps_asked_for(tmp_path: Path) -> None:
    run = fresh(tmp_path, settings(quantise_from=0.5))
    rounded = []
    for number in range(len(run.steps)):
        run.step(number)
        rounded.append(all(layer.at is not pass_on for layer in run.model.stack()))
    half = math.ceil(len(run.steps) / 2)
    assert rounded == [number >= half for number in range(len(run.steps))]
    assert len(json.loads((tmp_path / "ranges.json").read_text(encoding="utf-8"))) == SHAPE.layers


def test_the_weights_kept_are_the_average_in_float32_but_for_the_language_head(tmp_path: Path) -> None:
    run = fresh(tmp_path, settings())
    run.step(0)
    kept = run.finish(examples(SPOKEN, seed=1))
    assert {value.dtype for value in kept.values()} == {torch.float32}
    assert list(kept) == [name for name, _ in run.model.named_parameters()]
    average = dict(zip(run.optimiser.names, run.optimiser.average, strict=True))
    assert {name for name in kept if not torch.equal(kept[name], average[name])} == {"language.weight", "language.bias"}


# --- A real kill

KILLED_AT = 7
KILLED = f"""
import os, signal, sys
from pathlib import Path
from crest.pipeline import train
from crest.pipeline.recipe import read_recipe

step = train.Run.step

def last_step(run, number):
    if number == {KILLED_AT}:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(run, number)

train.Run.step = last_step
recipe, assembled, encoder, out = map(Path, sys.argv[1:])
train.train(read_recipe(recipe), assembled=assembled, encoder=encoder, out=out)
"""


@pytest.fixture(scope="module")
def places(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A recipe of some ten steps, each with a checkpoint, and its assembled rows."""
    folder = tmp_path_factory.mktemp("kill")
    text = SMOKE.read_text(encoding="utf-8")
    changes = [
        ("epochs = 2", "epochs = 1\nthreads = 1"),
        ("= 3000", "= 1000"),
        ("checkpoint_s = 5", "checkpoint_s = 0"),
    ]
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "r.toml").write_text(text, encoding="utf-8")
    (folder / "assembled").mkdir()
    made = read_recipe(folder / "r.toml")
    assemble(made, data_dir=write_data(folder / "data"), encoder=tiny_encoder, out=folder / "assembled")
    return {"recipe": folder / "r.toml", "assembled": folder / "assembled", "encoder": tiny_encoder}


def steps_of(out: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_run_killed_by_the_system_goes_on_and_ends_with_exactly_the_same_weights(
    places: dict[str, Path], tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    made = read_recipe(places["recipe"])
    train(made, assembled=places["assembled"], encoder=places["encoder"], out=whole)

    arguments = [*places.values(), killed]
    finished = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, timeout=300, check=False)
    assert finished.returncode == -signal.SIGKILL, finished.stderr
    assert steps_of(killed) == list(range(KILLED_AT))
    assert (killed / "checkpoint.pt").exists() and not (killed / "model.safetensors").exists()

    train(made, assembled=places["assembled"], encoder=places["encoder"], out=killed)
    assert steps_of(killed) == steps_of(whole) == list(range(len(steps_of(whole))))
    assert len(steps_of(whole)) > KILLED_AT + 1
    assert equal(load_file(killed / "model.safetensors"), load_file(whole / "model.safetensors"))
    assert sorted(path.name for path in killed.iterdir()) == ["log.jsonl", "model.safetensors", "ranges.json"]
