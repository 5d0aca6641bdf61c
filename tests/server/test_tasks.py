"""The next case, predictions of many cases, scoring, and the versions of the model."""

import io
import subprocess
import threading

import numpy as np
import pytest

from inflate3d.annotation.strategies import STRATEGIES
from inflate3d.server import train_model
from inflate3d.server.labels import LabelVersion
from inflate3d.server.models import RESULT, ModelVersion
from inflate3d.server.service import Service
from inflate3d.server.training_job import JobFolder
from inflate3d.training.build import absent_classes


@pytest.fixture
def with_models(service):
    """Two finished trainings, the first in service."""
    for number, dice in ((1, 0.8), (2, 0.7)):
        folder = service.models.folder / f"{number:04d}"
        folder.mkdir(parents=True)
        version = ModelVersion(number=number, dice=dice, before=None if number == 1 else 0.8, held_out={"a": dice})
        (folder / RESULT).write_text(version.model_dump_json(), encoding="utf-8")
    service.models.put_in_service(1)
    return service


def test_next_case_is_another_for_each_client(client):
    given = [client.post("/activelearning/random", json={"client_id": name}).json()["id"] for name in "abc"]
    assert sorted(given) == ["toy2", "toy3", "toy4"]
    again = client.post("/activelearning/random", json={"client_id": "b"}).json()
    assert again["id"] == given[1] and again["name"] == f"{given[1]}.nii.gz"
    assert client.post("/activelearning/random").json()["id"] in given  # all are taken, and one is given anyway
    assert client.post("/activelearning/none").status_code == 400


def test_case_that_another_one_has_begun_is_not_next(client, service):
    for name in ("toy2", "toy3"):
        service.cases.save_labels(name, np.zeros((20, 24, 7), np.uint8), tag="draft", by="a")
    assert {client.post("/activelearning/random", json={"client_id": "b"}).json()["id"] for _ in range(5)} == {"toy4"}


def test_uncertain_case_is_first(client, service):
    for name, confidence in (("toy2", 0.9), ("toy3", 0.2), ("toy4", 0.6)):
        labels = np.zeros((20, 24, 7), np.uint8)
        service.cases.save_labels(name, labels, tag="predicted", model=0, confidence={"liver": confidence})
    assert client.post("/activelearning/uncertainty").json()["id"] == "toy3"


def test_nothing_is_next_when_all_are_labeled(client, service):
    for name in ("toy2", "toy3", "toy4"):
        service.cases.save_labels(name, np.zeros((20, 24, 7), np.uint8), tag="final")
    assert client.post("/activelearning/random").json() == {}


def test_predictions_of_many_cases(client, service: Service, monkeypatch):
    seen = []

    def predict(case):
        seen.append(case.id)
        info = {"warnings": [{"what": "all alike", "got": "7"}]} if case.id == "toy3" else {}
        return LabelVersion(number=1, tag="predicted", info=info), {}

    monkeypatch.setattr(service, "predict_case", predict)
    task = client.post(f"/batch/infer/{service.name}?images=unlabeled&run_sync=true").json()
    assert task["status"] == "DONE"
    assert task["result"] == {"predicted": 3, "failed": {}, "warnings": {"toy3": ["all alike"]}}
    assert seen == ["toy2", "toy3", "toy4"]
    assert client.get("/batch/infer").json()["id"] == task["id"]
    assert client.get("/batch/infer?check_if_running=true").status_code == 404
    assert client.delete("/batch/infer").json() is None


def test_predictions_of_many_cases_stop(client, service: Service, monkeypatch):
    reached, going_on = threading.Event(), threading.Event()

    def predict(case):
        reached.set()
        going_on.wait(60)
        return LabelVersion(number=1, tag="predicted"), {}

    monkeypatch.setattr(service, "predict_case", predict)
    client.post(f"/batch/infer/{service.name}")
    assert reached.wait(60)
    assert client.post(f"/batch/infer/{service.name}").status_code == 429
    assert client.delete("/batch/infer").json()["status"] == "STOPPED"
    going_on.set()


def test_scoring_is_the_dice_of_predicted_and_final(client, service: Service):
    labels = service.cases.read_labels("toy0", service.cases["toy0"].history.versions()[0]).array[0]
    service.cases.save_labels("toy0", labels, tag="predicted", model=0)
    service.cases.save_labels("toy1", np.where(labels == 2, 2, 0), tag="predicted", model=0)
    result = client.post("/scoring/dice?run_sync=true").json()["result"]
    assert result == {"cases": {"toy0": 1.0, "toy1": 0.5}, "mean": 0.75, "failed": {}}
    assert client.post("/scoring/other").status_code == 404


def test_model_versions(client, with_models):
    name = with_models.name
    info = client.get("/info/").json()
    assert info["models"][name]["version"] == 1 and info["train_stats"][name]["best_metric"] == 0.8
    assert with_models.models.get(2).is_worse and not with_models.models.get(1).is_worse
    assert client.put(f"/model/{name}/in-service?version=2").json()["dice"] == 0.7
    listed = client.get("/page/models").json()
    assert listed["in_service"] == 2
    assert [(each["number"], each["dice"], each["held_out"]) for each in listed["versions"]] == [
        (2, 0.7, 1),
        (1, 0.8, 1),
    ]
    strategies = [each["name"] for each in client.get("/page/cases").json()["strategies"]]
    assert strategies[0] == "foreground-random" and set(strategies) == set(STRATEGIES)
    assert client.get("/info/").json()["models"][name]["version"] == 2
    assert client.put(f"/model/{name}/in-service?version=3").status_code == 404


@pytest.mark.slow
@pytest.mark.parametrize("params", [{"epochs": 3}, {"steps": "3"}, {"steps": -1}, {"warm_start": 1}])
def test_unknown_and_invalid_training_options_are_refused(client, service, params):
    assert client.post(f"/train/{service.name}", json=params).status_code == 400
    assert client.get("/train/").status_code == 404


def test_training_without_labels_says_what_is_missing(client, service):
    for name in ("toy0", "toy1"):
        assert client.delete(f"/datastore/label?id={name}&tag=final").status_code == 200
    answer = client.post(f"/train/{service.name}")
    assert answer.status_code == 400 and "too few labeled cases" in answer.json()["error"]["what"]


def test_training_where_a_case_has_another_number_of_files_is_refused(client, service):
    """One 4D file beside cases of two files: one table can't list both."""
    service.cases.save_labels("toy3", np.zeros((20, 24, 7), np.uint8), tag="final")
    case = service.cases["toy3"].case
    object.__setattr__(case, "images", (case.scan, case.scan))
    error = client.post(f"/train/{service.name}").json()["error"]
    assert (error["case"], error["got"], error["expected"]) == ("toy3", "2", "1 file, as toy0 has")
    assert "different number of files" in error["what"] and error["hint"]


class StoppedProcess(subprocess.Popen):
    """A training that does nothing until it is stopped."""

    def __init__(self, command, **how):
        self.stdin = self._pipe = io.BytesIO()

    def wait(self, timeout=None):
        while not self._pipe.closed:
            threading.Event().wait(0.01)
        return 75


def test_stopped_training_is_resumed_unless_label_maps_changed(client, service, monkeypatch):
    monkeypatch.setattr("inflate3d.server.trainer.subprocess.Popen", StoppedProcess)
    folder = JobFolder(service.models.folder / "0001")
    address = f"/train/{service.name}"
    assert client.post(address, json={"steps": 5}).json()["status"] == "RUNNING"
    assert client.post(address, json={"steps": 5}).status_code == 429
    assert client.delete("/train/").json()["status"] == "STOPPED"
    (folder.root / "checkpoint").touch()
    client.post(address, json={"steps": 5})
    client.delete("/train/")
    assert (folder.root / "checkpoint").exists()  # the same training goes on
    service.cases.save_labels("toy3", np.zeros((20, 24, 7), np.uint8), tag="final")
    client.post(address, json={"steps": 5})
    assert client.delete("/train/").json()["details"][-1] == "stopped"
    assert not (folder.root / "checkpoint").exists()
    assert folder.read_job().labels == {"toy0": 0, "toy1": 0, "toy3": 1}
    (split,) = folder.read_dataset().splits["own"]
    assert {*split.train, *split.validation} == {"toy0", "toy1", "toy3"} and len(split.validation) == 1


def test_class_that_no_labeled_case_has_yet_does_not_stop_a_training(client, service, monkeypatch):
    monkeypatch.setattr("inflate3d.server.trainer.subprocess.Popen", StoppedProcess)
    for name in ("toy0", "toy1"):
        labels = service.cases.read_labels(name, service.cases[name].history.versions()[0]).array[0]
        service.cases.save_labels(name, np.where(labels == 2, 2, 0), tag="final")
    assert client.post(f"/train/{service.name}", json={"steps": 5}).json()["status"] == "RUNNING"
    client.delete("/train/")
    folder = JobFolder(service.models.folder / "0001")
    dataset = folder.read_dataset()
    store = train_model._open_store(folder, folder.read_job(), dataset)
    assert absent_classes(store, dataset.splits["own"][0].train) == ["tumor"]
