import operator
import os

import pytest

from inflate3d.errors import ConfigError, Inflate3dError
from inflate3d.preparation.parallel import FEWEST_ITEMS, in_parallel


def process_ids(items, workers):
    return set(in_parallel(operator.call, [os.getpid] * items, workers))


def test_one_process_is_this_one():
    assert process_ids(9, workers=1) == {os.getpid()}


def test_few_items_are_worked_on_here():
    assert process_ids(FEWEST_ITEMS - 1, workers=2) == {os.getpid()}


def test_many_items_are_worked_on_elsewhere():
    assert os.getpid() not in process_ids(FEWEST_ITEMS, workers=2)


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order(workers):
    assert list(in_parallel(abs, range(-40, 0), workers)) == list(range(40, 0, -1))


def test_killed_process_is_reported():
    with pytest.raises(Inflate3dError, match="a worker process was killed") as caught:
        list(in_parallel(os._exit, range(FEWEST_ITEMS), 2))
    assert "--jobs" in str(caught.value.hint)


@pytest.mark.parametrize("workers", [0, -2])
def test_number_of_processes_that_can_not_be(workers):
    with pytest.raises(ConfigError, match="invalid number of processes"):
        list(in_parallel(abs, range(9), workers))
