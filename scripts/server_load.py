"""Requests of many clients to the annotation server, and fuzzed ones: no fault, and nothing lost.

    python scripts/server_load.py
    python scripts/server_load.py --clients 50 --seconds 60 --fuzz 20

It serves generated scans from a temporary folder. The fuzzing needs `schemathesis` (pip install schemathesis, perhaps
in an environment of its own) on the PATH. The exit code is 1 after an answer of 500 or more, or if a save is lost.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from inflate3d.datasets.phantom import write_phantoms

CASES = 4
READS = (
    "GET /info/",
    "GET /datastore/?output=all",
    "GET /datastore/image?image={case}",
    "GET /datastore/label?label={case}",
    "GET /datastore/versions?image={case}",
    "GET /train/",
    "GET /logs/",
    "POST /activelearning/random",
    "POST /infer/{model}?image={case}",
)


def empty_labels(scan: Path) -> bytes:
    image = nibabel.Nifti1Image.from_filename(scan)
    return nibabel.Nifti1Image(np.zeros(image.shape[:3], np.uint8), image.affine).to_bytes()


class Load:
    """Clients that send what comes next until time is up."""

    def __init__(self, address: str, scans: dict[str, Path], seconds: float) -> None:
        self.address, self.until = address, time.monotonic() + seconds
        info = json.loads(self.send("GET", "/info/")[1])
        self.model = next(iter(info["trainers"]))
        self.cases = sorted(scans)
        self.label_info = [{"name": name, "idx": number} for number, name in enumerate(info["labels"], start=1)]
        self.labels = {case: empty_labels(scan) for case, scan in scans.items()}
        self.statuses: Counter[int] = Counter()
        self.seconds: list[float] = []
        self.saved: list[tuple[str, int]] = []

    def send(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> tuple[int, bytes]:
        headers = {"content-type": kind} if body else {}
        request = urllib.request.Request(self.address + path, body or None, headers, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def save(self, case: str) -> int:
        params = json.dumps({"label_info": self.label_info})
        head = (
            f'--x\r\nContent-Disposition: form-data; name="params"\r\n\r\n{params}\r\n'
            '--x\r\nContent-Disposition: form-data; name="label"; filename="a.nii"\r\n\r\n'
        )
        body = head.encode() + self.labels[case] + b"\r\n--x--\r\n"
        status, answer = self.send("PUT", f"/datastore/label?image={case}", body, "multipart/form-data; boundary=x")
        if status == 200:
            self.saved.append((case, json.loads(answer)["version"]))
        return status

    def client(self, number: int) -> None:
        choice = random.Random(number)  # noqa: S311
        while time.monotonic() < self.until:
            case, started = choice.choice(self.cases), time.perf_counter()
            if choice.random() < 0.2:
                status = self.save(case)
            else:
                method, path = choice.choice(READS).format(case=case, model=self.model).split()
                status, _ = self.send(method, path)
            self.seconds.append(time.perf_counter() - started)
            self.statuses[status] += 1

    def run(self, clients: int) -> None:
        threads = [threading.Thread(target=self.client, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def lost(self) -> list[tuple[str, int]]:
        """The saves that were answered and that the server does not list."""
        listed: set[tuple[str, int]] = set()
        for case in self.cases:
            versions: list[dict[str, Any]] = json.loads(self.send("GET", f"/datastore/versions?image={case}")[1])
            listed |= {(case, version["number"]) for version in versions}
        return [save for save in self.saved if save not in listed]


def start(folder: Path) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "inflate3d", "serve", "phantoms", "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)  # noqa: S603
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.match(r"server: (http://\S+)", line):
            threading.Thread(target=shutil.copyfileobj, args=(process.stderr, sys.stderr), daemon=True).start()
            return process, found[1].rstrip("/")
    raise SystemExit("the server did not start")


def fuzz(load: Load, examples: int, folder: Path) -> bool:
    """Whether the routes of the OpenAPI document stand fuzzed requests; those that train or take gzip are left out."""
    program = shutil.which("schemathesis")
    if program is None:
        print("schemathesis is not installed: nothing is fuzzed")
        return True
    known = {"path.model": load.model, "path.case": load.cases[0], "path.strategy": "random", "path.method": "dice"}
    known |= {"query.image": load.cases[0], "query.label": load.cases[0]}
    settings = "".join(f'"{name}" = "{value}"\n' for name, value in known.items())
    (folder / "schemathesis.toml").write_text(f"[parameters]\n{settings}", encoding="utf-8")
    command = [program, "--config-file", str(folder / "schemathesis.toml"), "run", f"{load.address}/openapi.json"]
    options = ["--checks", "not_a_server_error", "--max-examples", str(examples)]
    left_out = ["--exclude-path-regex", "^/train/|^/page/cases/{case}/labels$"]
    return subprocess.run([*command, *options, *left_out], cwd=folder, check=False).returncode == 0  # noqa: S603


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--fuzz", type=int, default=20, help="examples for each route; 0 for none")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        dataset = write_phantoms(Path(name) / "phantoms", CASES)
        process, address = start(Path(name))
        try:
            load = Load(address, {case.id: case.scan for case in dataset.cases}, options.seconds)
            load.run(options.clients)
            lost = load.lost()
            sound = not options.fuzz or fuzz(load, options.fuzz, Path(name))
            alive = load.send("GET", "/info/")[0] == 200
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)
            process.kill()
    faults = sum(count for status, count in load.statuses.items() if status >= 500)
    middle, late = np.percentile(load.seconds, [50, 99])
    print(f"{len(load.seconds)} requests of {options.clients} clients: {dict(sorted(load.statuses.items()))}")
    print(f"seconds: median {middle:.3f}, 99th percentile {late:.3f}; {len(load.saved)} saves, {len(lost)} lost")
    return int(bool(faults or lost or not sound or not alive))


if __name__ == "__main__":
    sys.exit(main())
