"""A server in a process of its own."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TINY = """
model: {encoder: resnet10t, weights: none, depth: 3, image_size: [32, 32], decoder_channels: 8, detail_channels: 4}
training: {steps: 2, batch_size: 2, validate_every: 2, precision: "32", accelerator: cpu, workers: 0}
"""
"""Settings of a training of seconds."""


@contextmanager
def running_server(
    folder: Path, *options: str, start_new_session: bool = False
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Serves the dataset ``Toys`` and ``scans`` of a folder; gives the address and the process, which is killed."""
    (folder / "tiny.yaml").write_text(TINY, encoding="utf-8")
    command = [sys.executable, "-m", "inflate3d", "serve", "Toys", "--scans", "scans", "--config", "tiny.yaml"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--port", "0", "--device", "cpu", *options],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=start_new_session,
    )
    try:
        assert process.stderr is not None
        printed = []
        for line in process.stderr:
            printed.append(line)
            if found := re.match(r"server: (http://\S+)", line):
                yield found[1].rstrip("/"), process
                break
        else:
            raise AssertionError("".join(printed))
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def ask(address: str, method: str = "GET", body: object = None, *, kind: str = "application/json") -> Any:
    """The JSON answer to a request.

    Args:
        body: Bytes of this kind, or what becomes JSON.
    """
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"content-type": kind}, method=method)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)
