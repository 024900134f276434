"""The optimiser: master weights, the working copy, the average, the rates, and what a checkpoint brings back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from crest.pipeline.encoder import Encoder
from crest.pipeline.optimiser import Optimiser
from lab import encoder, ids, settings


def made(kind: torch.dtype = torch.bfloat16, *, seed: int = 0, **changes: Any) -> tuple[Encoder, Optimiser]:
    model = encoder(seed=seed).to(kind)
    return model, Optimiser(model, settings(**changes), steps=10)


def step(model: Encoder, optimiser: Optimiser, number: int) -> None:
    output = model(ids(4, 6, seed=number))
    loss = output.unsafe.float().square().sum() + output.category.float().square().sum()
    torch.autograd.backward(loss)
    optimiser.step(number)


def flat(values: Sequence[Tensor]) -> Tensor:
    return torch.cat([value.detach().float().flatten() for value in values])


def test_the_working_copy_is_the_master_rounded_to_bfloat16() -> None:
    model, optimiser = made()
    for number in range(3):
        step(model, optimiser, number)
        for value, master in zip(optimiser.working, optimiser.master, strict=True):
            assert (value.dtype, master.dtype) == (torch.bfloat16, torch.float32)
            assert torch.equal(value, master.bfloat16())
    assert not torch.equal(flat(optimiser.working), flat(optimiser.master))


def test_steps_too_small_for_bfloat16_add_up_in_the_master() -> None:
    model, optimiser = made(learning_rate=1e-6, head_learning_rate=1e-6, warmup_steps=0)
    before = flat(optimiser.master).clone()
    for number in range(5):
        step(model, optimiser, number)
    moved = (flat(optimiser.master) - before).abs()
    assert 1e-6 < float(moved.median()) < 6e-6


def test_the_working_copy_is_the_model_and_its_gradients_are_used_up() -> None:
    model, optimiser = made()
    step(model, optimiser, 0)
    assert all(mine is its for mine, its in zip(optimiser.working, model.parameters(), strict=True))
    assert all(value.grad is None for value in model.parameters())


def test_the_average_follows_slowly_and_a_little_faster_at_the_start() -> None:
    model, optimiser = made(average=0.2)
    expected = flat(optimiser.master).clone()
    for number, decay in enumerate((0.1, 2 / 11, 0.2, 0.2)):  # (number + 1) / (number + 10), at most .2
        step(model, optimiser, number)
        expected = decay * expected + (1 - decay) * flat(optimiser.master)
        assert torch.allclose(flat(optimiser.average), expected, atol=1e-6)


def test_the_model_takes_the_average_when_asked() -> None:
    model, optimiser = made(torch.float32)
    for number in range(3):
        step(model, optimiser, number)
    assert not torch.equal(flat(list(model.parameters())), flat(optimiser.average))
    optimiser.use_average()
    assert torch.equal(flat(list(model.parameters())), flat(optimiser.average))


def test_rates_warm_up_and_fall_to_zero_and_heads_have_their_own() -> None:
    model, optimiser = made(learning_rate=1e-3, head_learning_rate=1e-2, warmup_steps=4)
    rates = []
    for number in range(10):
        step(model, optimiser, number)
        rates.append({group["peak"]: group["lr"] / group["peak"] for group in optimiser.adam.param_groups})
    falling = [1 - number / 10 for number in range(10)]
    expected = [min(1, (number + 1) / 4) * falling[number] for number in range(10)]
    for peak in (1e-3, 1e-2):
        assert [rate[peak] for rate in rates] == pytest.approx(expected)


def test_only_matrices_decay() -> None:
    _, optimiser = made(weight_decay=0.3)
    decays = {
        value.data_ptr(): group["weight_decay"] for group in optimiser.adam.param_groups for value in group["params"]
    }
    found = {name: decays[value.data_ptr()] for name, value in zip(optimiser.names, optimiser.master, strict=True)}
    assert {name for name, decay in found.items() if not decay} == {
        name for name in optimiser.names if name.endswith("bias") or "norm" in name
    }
    assert set(found.values()) == {0.0, 0.3}


def test_a_parameter_without_a_gradient_only_decays() -> None:
    model, optimiser = made(torch.float32, weight_decay=0.0)
    before = model.language.weight.clone()
    step(model, optimiser, 0)  # its loss says nothing of the language
    assert torch.equal(model.language.weight, before)


def test_an_explosion_of_gradients_moves_weights_no_further_than_the_rate() -> None:
    model, optimiser = made(torch.float32, warmup_steps=0, weight_decay=0.0, head_learning_rate=1e-3)
    before = flat(optimiser.master).clone()
    torch.autograd.backward(model(ids(4, 6)).unsafe.sum() * 1e6)
    optimiser.step(0)
    assert float((flat(optimiser.master) - before).abs().max()) < 1.01e-3


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_a_restored_optimiser_goes_on_exactly(kind: torch.dtype, tmp_path: Path) -> None:
    model, optimiser = made(kind)
    for number in range(3):
        step(model, optimiser, number)
    torch.save(optimiser.state(), tmp_path / "state.pt")
    other_model, other = made(kind, seed=5)
    other_model.vocabulary.copy_(model.vocabulary)
    other.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert all(map(torch.equal, other.working, optimiser.working))
    for number in range(3, 6):
        step(model, optimiser, number)
        step(other_model, other, number)
    for name in ("working", "master", "average"):
        assert all(map(torch.equal, getattr(other, name), getattr(optimiser, name)))
