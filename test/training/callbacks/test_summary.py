"""What a run says of its steps before the first one."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from training.callbacks.summary import StepSummary
from training.tasks.optimization import Optimization


@pytest.mark.parametrize(
    ("optimization", "rate"),
    [
        (Optimization(learning_rate=1e-4), "learning rate 0.0001 (fixed), now 0.0003"),
        (
            Optimization(learning_rate=1e-4, rate_rule="linear"),
            "learning rate 0.0016 (linear, 0.0001 for 12), now 0.0003",
        ),
    ],
)
def test_samples_and_rate(optimization: Optimization, rate: str, caplog: pytest.LogCaptureFixture) -> None:
    trainer: Any = SimpleNamespace(
        datamodule=SimpleNamespace(batch_size=12),
        world_size=8,
        accumulate_grad_batches=2,
        optimizers=[SimpleNamespace(param_groups=[{"lr": 3e-4}])],
    )
    task: Any = SimpleNamespace(optimization=optimization)
    with caplog.at_level(logging.INFO):
        StepSummary().on_train_start(trainer, task)
    (record,) = caplog.records
    assert record.getMessage() == f"192 samples per step: 12 (batch) x 8 (processes) x 2 (accumulated); {rate}"
