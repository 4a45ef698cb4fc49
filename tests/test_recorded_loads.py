"""Recording load_state_dict, which is one method for all threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from tcs.teacher.weights import recorded_loads


def test_a_recorded_load_is_lenient_and_noted_and_the_next_one_is_neither() -> None:
    layer = nn.Linear(2, 1)
    with recorded_loads() as outer, recorded_loads() as loads:
        layer.load_state_dict({"weight": torch.ones(1, 2), "other": torch.ones(1)})
    assert [(load.missing, load.unexpected, load.strict) for load in loads] == [(("bias",), ("other",), True)]
    assert len(outer) == 1
    assert layer.weight.tolist() == [[1, 1]]
    with pytest.raises(RuntimeError, match="Missing key"):
        layer.load_state_dict({})
    assert len(loads) == 1


def test_another_thread_loads_as_ever_and_records_later() -> None:
    plain = nn.Module.load_state_dict
    inside, through = threading.Event(), threading.Event()

    def first() -> int:
        with recorded_loads() as loads:
            inside.set()
            assert through.wait(10)
            nn.Linear(1, 1).load_state_dict({})
        return len(loads)

    def second() -> int:
        assert inside.wait(10)
        with pytest.raises(RuntimeError, match="Missing key"):
            nn.Linear(1, 1).load_state_dict({})
        through.set()
        with recorded_loads() as loads:
            nn.Linear(1, 1).load_state_dict({})
            nn.Linear(1, 1).load_state_dict({})
        return len(loads)

    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(first), pool.submit(second)]
        assert [one.result() for one in found] == [1, 2]
    assert nn.Module.load_state_dict is plain
