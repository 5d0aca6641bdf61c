"""Shares of memory for predictions and trainings."""

import pytest

from inflate3d.config import TrainingDefaults
from inflate3d.server.memory import planned_batches, prediction_memory


class Card:
    total_memory = 80 * 10**9


@pytest.mark.parametrize(
    ("device", "given", "memory"),
    [(None, None, 16.0), ("cuda:1", None, 16.0), ("cuda", 3.0, 3.0), ("cpu", None, None), ("cpu", 2.0, 2.0)],
)
def test_predictions_leave_most_of_a_gpu_to_the_training(monkeypatch, device, given, memory):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: Card())
    assert prediction_memory(device, given) == memory
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert prediction_memory(None, given) == given


def test_batches_of_a_larger_machine_become_smaller_ones_with_the_same_sum():
    allowed = TrainingDefaults(depth=5, batch_size=4, accumulate=4, foreground_fraction=0.5, steps=1000)
    assert planned_batches({"batch_size": 16, "accumulate": 2}, allowed) == {"batch_size": 4, "accumulate": 8}
    assert planned_batches({"batch_size": 6, "accumulate": None}, allowed) == {"batch_size": 4, "accumulate": 2}
    assert planned_batches({"batch_size": 4, "accumulate": 1}, allowed) == planned_batches({}, allowed) == {}
