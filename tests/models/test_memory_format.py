import pytest
import torch

from inflate3d.models.memory_format import quickest_memory_format


@pytest.mark.parametrize(
    ("device", "reduced", "wanted"),
    [
        ("cpu", False, torch.contiguous_format),
        ("cpu", True, torch.channels_last),
        ("cuda", False, torch.channels_last),
        ("cuda", True, torch.channels_last),
    ],
)
def test_channels_come_last_where_that_is_quicker(device, reduced, wanted):
    assert quickest_memory_format(torch.device(device), reduced_precision=reduced) == wanted
