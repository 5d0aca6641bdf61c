"""Many requests at once, and servers that are killed: what was answered as saved is there, whole."""

import json
import os
import random
import signal
import threading
import time
import urllib.error
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from inflate3d.io import read_labels, read_volume
from inflate3d.run_folder import TrainingLog
from inflate3d.server.cases import CaseList
from inflate3d.server.project import open_project
from inflate3d.server.training_job import JobFolder

from .conftest import SHAPE, nifti
from .processes import ask, running_server

INFO = [{"name": "liver", "idx": 1}, {"name": "tumor", "idx": 2}]
VALUES = np.array([0, 2, 5])


def drawing(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, SHAPE).astype(np.uint8)


def form(name: str, content: bytes, **fields: str) -> tuple[bytes, str]:
    """A multipart body and its type."""
    parts = [f'--x\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in fields.items()]
    head = "".join(parts) + f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="a.nii"\r\n\r\n'
    return head.encode() + content + b"\r\n--x--\r\n", "multipart/form-data; boundary=x"


READS = [
    ("GET", "/info/"),
    ("GET", "/datastore/?output=all"),
    ("GET", "/datastore/image?image=toy3"),
    ("GET", "/datastore/label?label=toy0"),
    ("GET", "/datastore/label?label=nobody"),
    ("GET", "/datastore/versions?image=toy2"),
    ("POST", "/activelearning/random"),
    ("POST", "/infer/Toys?image=toy3"),
    ("GET", "/train/"),
    ("PUT", "/datastore/label?image=toy3"),
    ("GET", "/../../etc/passwd"),
    ("DELETE", "/datastore/image?id=toy3"),
]


@pytest.mark.slow
def test_500_requests_at_once(client, service, toys):
    """A fifth of them save; none fails by a fault, and no save is lost."""
    saved = []

    def send(number: int) -> int:
        if number % 5:
            method, address = random.Random(number).choice(READS)
            return client.request(method, address).status_code
        body, kind = form("label", nifti(drawing(number)), params=json.dumps({"label_info": INFO}))
        case = f"toy{2 + number % 3}"
        answer = client.put(f"/datastore/label?image={case}", content=body, headers={"content-type": kind})
        saved.append((case, answer.json()["version"], number))
        return answer.status_code

    with ThreadPoolExecutor(20) as pool:
        statuses = Counter(pool.map(send, range(500)))
    assert set(statuses) <= {200, 400, 404, 409, 422} and statuses[200] > 200
    assert len({(case, version) for case, version, _ in saved}) == len(saved) == 100
    reopened = CaseList(service.project, toys / "annotations")
    for case, version, number in saved:
        record = reopened[case].history.get(version)
        assert record is not None
        stored = read_labels(reopened[case].history.path(record)).array[0]
        assert np.array_equal(stored, VALUES[drawing(number)])


@pytest.mark.slow
def test_killed_server_loses_nothing_that_it_answered(toys):
    """It is killed while label maps are saved, scans are uploaded, and a model is trained."""
    saved: list[tuple[str, int, int]] = []
    uploaded: list[str] = []
    enough = threading.Event()
    scan = nifti(drawing(0).astype(np.int16))

    def save(address: str, worker: int) -> None:
        number = worker
        try:
            while True:
                body, kind = form("label", nifti(drawing(number)), params=json.dumps({"label_info": INFO}))
                case = f"toy{2 + number % 3}"
                answer = ask(f"{address}/datastore/label?image={case}", "PUT", body, kind=kind)
                saved.append((case, answer["version"], number))
                body, kind = form("file", scan)
                uploaded.append(ask(f"{address}/datastore/image?image=new{number}", "PUT", body, kind=kind)["image"])
                if len(saved) >= 30:
                    enough.set()
                number += 4
        except (OSError, urllib.error.URLError, ValueError):
            enough.set()  # the server is gone

    with running_server(toys) as (address, process):
        ask(f"{address}/train/Toys", "POST", {"steps": 10_000})
        with ThreadPoolExecutor(4) as pool:
            workers = [pool.submit(save, address, worker) for worker in range(4)]
            assert enough.wait(300)
            process.kill()
            for worker in workers:
                worker.result(300)
    assert len(saved) >= 30
    folder = toys / "annotations/Toys"
    with JobFolder(folder / "models/0001").locked(120.0):
        pass  # the training has ended by itself
    assert not JobFolder(folder / "models/0001").finished
    with running_server(toys) as (address, _):
        for case, version, number in saved:
            record = {each["number"]: each for each in ask(f"{address}/datastore/versions?image={case}")}[version]
            stored = read_labels(folder / "labels" / case / record["file"]).array[0]
            assert np.array_equal(stored, VALUES[drawing(number)])
        names = set(ask(f"{address}/datastore/?output=all")["objects"])
        assert set(uploaded) <= names
        for name in names & {f"new{number}" for number in range(1000)}:
            assert read_volume(folder / f"images/{name}.nii").shape == SHAPE


@pytest.mark.slow
def test_training_of_a_killed_server_is_resumed(toys):
    """Server and training are killed at once, as by a power cut; the same training then goes on from its checkpoint."""
    with running_server(toys, start_new_session=True) as (address, process):
        body, kind = form("label", nifti(drawing(1)), tag="final", params=json.dumps({"label_info": INFO}))
        saved = ask(f"{address}/datastore/label?image=toy2", "PUT", body, kind=kind)["version"]
        ask(f"{address}/train/Toys", "POST", {"steps": 400})
        job = JobFolder(toys / "annotations/Toys/models/0001")
        while not job.run.last.exists():
            assert ask(f"{address}/train/")["status"] == "RUNNING"
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    reached = TrainingLog.read(job.run.metrics).rows
    begun = job.request.stat().st_mtime_ns
    assert not job.finished
    reopened = CaseList(open_project(toys / "Toys", toys / "scans"), toys / "annotations/Toys")
    record = reopened["toy2"].history.get(saved)
    assert record is not None
    assert np.array_equal(read_labels(reopened["toy2"].history.path(record)).array[0], VALUES[drawing(1)])
    with running_server(toys) as (address, _):
        ask(f"{address}/train/Toys", "POST", {"steps": 400})
        while (seen := TrainingLog.read(job.run.metrics).rows)[-1]["step"] <= reached[-1]["step"]:
            assert ask(f"{address}/train/")["status"] == "RUNNING"
            time.sleep(0.1)
        assert seen[0] == reached[0]  # seconds included: it did not begin anew
        assert job.request.stat().st_mtime_ns == begun
