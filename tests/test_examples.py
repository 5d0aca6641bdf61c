import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
def test_inflate_a_backbone(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "inflate_a_backbone.py"))["main"]("resnet10t")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["center", "average"]
    assert lines[2:] == [
        "stride 4: (2, 64, 48, 48)",
        "stride 8: (2, 128, 24, 24)",
        "stride 16: (2, 256, 12, 12)",
        "stride 32: (2, 512, 6, 6)",
        "logits of the center slices: (2, 14, 192, 192)",
    ]
