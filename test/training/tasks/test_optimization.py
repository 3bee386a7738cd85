"""Learning rates over a run, against what the schedules are defined to be."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.optim import Adam, AdamW

from training.tasks.optimization import Optimization


def rates(configured: Any, steps: int) -> list[float]:
    """Learning rate before each step, and after the last."""
    scheduler = configured["lr_scheduler"]
    if isinstance(scheduler, dict):
        assert scheduler["interval"] == "step"
        scheduler = scheduler["scheduler"]
    seen = []
    for _ in range(steps):
        seen.append(configured["optimizer"].param_groups[0]["lr"])
        configured["optimizer"].step()
        scheduler.step()
    return [*seen, configured["optimizer"].param_groups[0]["lr"]]


def weights() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(2))]


def test_step_divides_by_ten_every_step_epochs() -> None:
    configured = Optimization(learning_rate=1e-4, step_epochs=3).schedule_for(weights(), total_steps=1000, samples=12)
    assert rates(configured, 6) == pytest.approx([1e-4] * 3 + [1e-5] * 3 + [1e-6])
    assert not isinstance(configured["lr_scheduler"], dict)  # Lightning's default interval is the epoch


def test_one_cycle_rises_over_the_warmup_and_falls_to_nothing() -> None:
    optimization = Optimization(learning_rate=1e-3, schedule="one_cycle", warmup=0.1)
    seen = rates(optimization.schedule_for(weights(), total_steps=101, samples=12), 100)
    top = seen.index(max(seen))
    assert top == pytest.approx(10, abs=1)
    assert max(seen) == pytest.approx(1e-3, rel=1e-2)
    assert all(a < b for a, b in pairwise(seen[: top + 1]))
    assert all(a > b for a, b in pairwise(seen[top:]))
    middle = (top + 100) // 2  # half of a cosine
    assert seen[middle] == pytest.approx(0.5e-3 * (1 + math.cos(math.pi * (middle - top) / (100 - top))), rel=0.05)
    assert seen[-1] < 1e-8


@pytest.mark.parametrize(("name", "kind"), [("adam", Adam), ("adamw", AdamW)])
def test_optimizer_by_name(name: Any, kind: type[torch.optim.Optimizer]) -> None:
    optimizer = Optimization(optimizer=name, learning_rate=0.3, weight_decay=0.02).schedule_for(weights(), 10, 12)[
        "optimizer"
    ]
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["lr"] == 0.3
    assert optimizer.param_groups[0]["weight_decay"] == 0.02


@pytest.mark.parametrize(("rule", "rate"), [("fixed", 1e-4), ("linear", 4e-4), ("sqrt", 2e-4)])
def test_rate_for_four_times_the_samples(rule: Any, rate: float) -> None:
    optimization = Optimization(learning_rate=1e-4, rate_rule=rule, base_samples=12)
    assert optimization.rate(12) == pytest.approx(1e-4)
    assert optimization.rate(48) == pytest.approx(rate)
    configured = optimization.schedule_for(weights(), 10, samples=48)
    assert configured["optimizer"].param_groups[0]["lr"] == pytest.approx(rate)


def test_cosine_falls_to_nothing() -> None:
    configured = Optimization(learning_rate=1e-3, schedule="cosine").schedule_for(
        weights(), total_steps=100, samples=12
    )
    seen = rates(configured, 100)
    assert seen == pytest.approx([0.5e-3 * (1 + math.cos(math.pi * step / 100)) for step in range(101)], abs=1e-12)
