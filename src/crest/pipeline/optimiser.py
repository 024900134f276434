"""AdamW on float32 master weights beside a working copy in bfloat16, with a moving average of the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from crest.pipeline.encoder import Encoder
from crest.pipeline.recipe import TrainSettings

HEADS = frozenset({"unsafe", "category", "language"})


class Optimiser:
    """Steps the weights of a model.

    Args:
        model: The working copy; its parameters are set after each step.
        settings: Rates and decay.
        steps: How many steps there will be.
    """

    def __init__(self, model: Encoder, settings: TrainSettings, *, steps: int) -> None:
        self.settings, self.steps = settings, steps
        self.names = [name for name, _ in model.named_parameters()]
        self.working = [value for _, value in model.named_parameters()]
        self.master = [value.detach().float().clone() for value in self.working]
        self.average = [value.clone() for value in self.master]
        groups: dict[tuple[bool, bool], list[Tensor]] = {}
        for name, value in zip(self.names, self.master, strict=True):
            head = name.split(".")[0] in HEADS
            groups.setdefault((head, value.ndim > 1), []).append(value)
        self.adam = torch.optim.AdamW(
            [
                {
                    "params": values,
                    "weight_decay": settings.weight_decay if matrix else 0.0,
                    "peak": settings.head_learning_rate if head else settings.learning_rate,
                }
                for (head, matrix), values in groups.items()
            ],
            betas=(0.9, 0.98),
            fused=True,
        )

    def step(self, number: int) -> None:
        """Apply the gradients of the working copy; `number` counts from 0."""
        warm = min(1.0, (number + 1) / max(1, self.settings.warmup_steps))
        rate = warm * max(0.0, 1 - number / self.steps)
        for group in self.adam.param_groups:
            group["lr"] = group["peak"] * rate
        with torch.no_grad():
            for value, master in zip(self.working, self.master, strict=True):
                master.grad = torch.zeros_like(master) if value.grad is None else value.grad.float()
                value.grad = None
            torch.nn.utils.clip_grad_norm_(self.master, 1.0)
            self.adam.step()
            decay = min(self.settings.average, (number + 1) / (number + 10))
            torch._foreach_lerp_(self.average, self.master, 1 - decay)
            for value, master in zip(self.working, self.master, strict=True):
                value.copy_(master)

    def use_average(self) -> None:
        """Set the working copy to the moving average."""
        with torch.no_grad():
            for value, average in zip(self.working, self.average, strict=True):
                value.copy_(average)

    def state(self) -> dict[str, Any]:
        """Return all that a checkpoint needs."""
        return {"master": self.master, "average": self.average, "adam": self.adam.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take a checkpoint's state."""
        self.adam.load_state_dict(state["adam"])
        with torch.no_grad():
            for name in ("master", "average"):
                for mine, saved in zip(getattr(self, name), state[name], strict=True):
                    mine.copy_(saved)
            for value, master in zip(self.working, self.master, strict=True):
                value.copy_(master)
