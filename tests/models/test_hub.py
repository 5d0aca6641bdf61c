"""Models on the hub, through huggingface_hub itself, against a small server with the part of the API that it uses."""

import base64
import hashlib
import json
import shutil
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants

from inflate3d.cli import main
from inflate3d.config import InflatedConfig
from inflate3d.errors import ConfigError, ModelError
from inflate3d.inference.predictor import Predictor
from inflate3d.models.card import write_model_card
from inflate3d.models.encoders import create_encoder
from inflate3d.models.hub import HubModel, push_model
from inflate3d.models.licenses import license_fields
from inflate3d.models.segmenter import load_model
from inflate3d.models.weights_origin import weights_origin
from inflate3d.provenance import DataOrigin, Provenance, Spread, WeightsOrigin, file_sha256
from inflate3d.run_folder import RunFolder

TOKEN = "hf_secret"


@dataclass
class Repository:
    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def find(self, revision: str) -> str | None:
        """The commit of a revision; main is the newest."""
        return list(self.commits)[-1] if revision == "main" else revision if revision in self.commits else None


class Hub(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.requests: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub  # type: ignore[assignment]

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the base class's name
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append(self.path)
        if not self._known():
            return self._fail(401, None)
        match self.path.split("/")[1:]:
            case ["api", "validate-yaml"]:
                self._answer({"errors": [], "warnings": []})
            case ["api", "repos", "create"]:
                wanted = json.loads(body)
                name = f"{wanted['organization']}/{wanted['name']}"
                private = wanted.get("private") or wanted.get("visibility") == "private"  # earlier and later versions
                is_new = name not in self.server.repositories
                self.server.repositories.setdefault(name, Repository(private, {"0" * 40: {".gitattributes": b""}}))
                self._answer({"url": f"{self.server.endpoint}/{name}", "id": name}, 200 if is_new else 409)
            case ["api", "models", user, name, "preupload", "main"]:
                files = [
                    {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for each in json.loads(body)["files"]
                ]
                self._answer({"files": files})
            case ["api", "models", user, name, "commit", "main"]:
                files = [json.loads(line)["value"] for line in body.splitlines() if b'"file"' in line]
                found = {each["path"]: base64.b64decode(each["content"]) for each in files}
                commits = self.server.repositories[f"{user}/{name}"].commits
                oid = hashlib.sha1(str(len(commits)).encode()).hexdigest()
                commits[oid] = (list(commits.values())[-1] if commits else {}) | found
                self._answer({"commitUrl": f"{self.server.endpoint}/{user}/{name}/commit/{oid}", "commitOid": oid})

    def do_HEAD(self) -> None:
        self.do_GET(content=False)

    def do_GET(self, content: bool = True) -> None:
        self.server.requests.append(self.path)
        parts = self.path.split("/")[1:]
        is_api = parts[0] == "api"
        name = "/".join(parts[2:4] if is_api else parts[:2])
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and not self._known()):
            return self._fail(404 if self._known() else 401, "RepoNotFound")
        if is_api:
            about = {"id": name, "private": repository.private, "sha": repository.find("main"), "siblings": []}
            return self._answer(about)
        _, _, _, revision, *place = parts
        commit = repository.find(revision)
        if commit is None:
            return self._fail(404, "RevisionNotFound")
        data = repository.commits[commit].get("/".join(place))
        if data is None:
            return self._fail(404, "EntryNotFound", {"X-Repo-Commit": commit})
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
        self._send(200, data, headers, content)

    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _answer(self, document: dict, status: int = 200) -> None:
        self._send(status, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _fail(self, status: int, code: str | None, headers: dict[str, str] | None = None) -> None:
        self._send(status, b"", ({"X-Error-Code": code} if code else {}) | (headers or {}))

    def _send(self, status: int, data: bytes, headers: dict[str, str], content: bool = True) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if content:
            self.wfile.write(data)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub of our own, an empty cache, and a token: what HF_ENDPOINT, HF_HUB_CACHE and HF_TOKEN set at the start."""
    server = Hub()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.endpoint + template[template.index("/{repo_id}") :]
    )
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def run(random_model, tmp_path) -> RunFolder:
    """What a training leaves that is pushed: a model, and the record of its origin."""
    folder = RunFolder(tmp_path / "run")
    random_model.save(folder.model)
    write_model_card(folder.model, random_model.architecture, random_model.plan)
    spread = Spread(minimum=(1, 1, 1), median=(1, 1, 1), maximum=(1, 1, 1))
    provenance = Provenance(
        seeds={},
        data=DataOrigin(cases={"patient_7": "0" * 64}, sha256="0" * 64, spacing=spread, shape=spread),
        weights=None,
        model_sha256=file_sha256(folder.model / "model.safetensors"),
    )
    provenance.write(folder)
    return folder


@contextmanager
def offline(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        yield


def equal(one, two) -> bool:
    others = two.state_dict()
    return all(torch.equal(tensor, others[name]) for name, tensor in one.state_dict().items())


def test_pushed_model_is_loaded_by_its_name_and_kept(run, hub, monkeypatch, capsys):
    assert main(["push", str(run.root), "lab/phantoms", "--json"]) == 0
    pushed = json.loads(capsys.readouterr().out)
    repository = hub.repositories["lab/phantoms"]
    assert repository.private
    files = repository.commits[pushed["revision"]]
    assert set(files) == {"model.json", "model.safetensors", "README.md", ".gitattributes"}
    assert not any(b"patient_7" in data or str(run.root).encode() in data for data in files.values())
    assert pushed["sha256"] == file_sha256(run.model / "model.safetensors")
    assert [each.model_dump() for each in Provenance.read(run).pushed] == [
        {name: pushed[name] for name in ("hub_id", "revision", "sha256")}
    ]

    predictor = Predictor.load(pushed["address"], device="cpu")
    assert equal(predictor.models[0], load_model(run.root))
    requests = len(hub.requests)
    with offline(monkeypatch):
        assert equal(Predictor.load(pushed["address"], device="cpu").models[0], predictor.models[0])
    assert len(hub.requests) == requests


def test_revision_is_what_was_pushed_then_and_starts_a_training(run, hub, random_model):
    (first,) = push_model(run.root, "lab/phantoms")
    (run.model / "postprocessing.json").write_text('{"classes": []}', encoding="utf-8")
    (second,) = push_model(run.root, "lab/phantoms")
    assert first.revision != second.revision

    old = HubModel("lab/phantoms", first.revision).fetch()
    new = HubModel("lab/phantoms").fetch()
    assert (old.name, new.name) == (first.revision, second.revision)
    assert not (old / "postprocessing.json").exists()
    assert (new / "postprocessing.json").exists()

    address = f"hf://lab/phantoms@{first.revision}"
    encoder = create_encoder("resnet10t", depth=3, image_size=64, weights=address)
    assert equal(encoder.network, random_model.encoder.network)
    origin = weights_origin(InflatedConfig(encoder="resnet10t", depth=3, image_size=(64, 64), weights=address))
    assert origin is not None
    assert (origin.hub_id, origin.revision, origin.sha256) == ("lab/phantoms", first.revision, first.sha256)
    assert origin.license == "data"  # random weights, so that only the data decide


def test_half_a_model_in_the_cache_is_not_loaded_offline(run, hub, monkeypatch):
    (pushed,) = push_model(run.root, "lab/phantoms")
    huggingface_hub.hf_hub_download("lab/phantoms", "model.json")
    huggingface_hub.hf_hub_download("lab/phantoms", "model.safetensors")
    with offline(monkeypatch), pytest.raises(ModelError) as caught:  # there might be a post-processing
        HubModel("lab/phantoms").fetch()
    assert "cache" in str(caught.value)
    assert HubModel("lab/phantoms").fetch().name == pushed.revision


def test_models_of_folds_are_pushed_and_averaged(run, hub, tmp_path, monkeypatch, capsys):
    folds = [RunFolder(tmp_path / "cv" / name) for name in ("fold0", "fold1")]
    for fold in folds:
        shutil.copytree(run.root, fold.root)
    (tmp_path / "cv" / "postprocessing.json").write_text('{"classes": []}', encoding="utf-8")
    assert main(["push", str(tmp_path / "cv"), "lab/folds", "--json"]) == 0
    pushed = json.loads(capsys.readouterr().out)
    files = hub.repositories["lab/folds"].commits[pushed["revision"]]
    models = {f"{fold}/{name}" for fold in ("fold0", "fold1") for name in ("model.json", "model.safetensors")}
    assert set(files) == {*models, "folds.json", "postprocessing.json", "README.md", ".gitattributes"}
    assert b"2 models" in files["README.md"]
    assert [Provenance.read(fold).pushed[0].revision for fold in folds] == [pushed["revision"]] * 2
    assert len(Predictor.load(pushed["address"], device="cpu").models) == 2
    with offline(monkeypatch):
        assert len(Predictor.load(pushed["address"], device="cpu").models) == 2
    files["folds.json"] = b'["../fold0"]'
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "another cache"))
    with pytest.raises(ModelError, match="list of folds"):
        Predictor.load("hf://lab/folds")


@pytest.mark.parametrize("address", ["hf://lab/other", "hf://lab/phantoms@v2", "hf://lab/empty"])
def test_what_the_hub_does_not_have_is_one_message(address, run, hub):
    push_model(run.root, "lab/phantoms")
    hub.repositories["lab/empty"] = Repository(private=False, commits={"0" * 40: {"notes.txt": b""}})
    with pytest.raises(ModelError) as caught:
        Predictor.load(address)
    assert caught.value.expected == address


def test_private_model_needs_a_token(run, hub, monkeypatch, capsys):
    push_model(run.root, "lab/phantoms")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "none")
    assert main(["predict", "hf://lab/phantoms", "scan.nii.gz", "out"]) == 2
    assert "HF_TOKEN" in capsys.readouterr().err
    with pytest.raises(ModelError):
        push_model(run.root, "lab/more")


@pytest.mark.parametrize("address", ["hf://phantoms", "hf://lab/phantoms@", "hf://lab/a/b", "hf://"])
def test_invalid_address(address):
    with pytest.raises(ConfigError):
        HubModel.parse(address)


def test_public_repository_is_not_used_unless_asked_for(run, hub):
    hub.repositories["lab/open"] = Repository(private=False, commits={"0" * 40: {}})
    with pytest.raises(ModelError):
        push_model(run.root, "lab/open")
    assert len(hub.repositories["lab/open"].commits) == 1
    push_model(run.root, "lab/open", public=True)
    assert len(hub.repositories["lab/open"].commits) == 2


def test_changed_model_is_not_pushed(run, hub):
    path = run.model / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError) as caught:
        push_model(run.root, "lab/phantoms")
    assert caught.value.file == str(path)
    assert hub.requests == []


def record(run, license_name: str | None) -> Provenance:
    weights = license_name and WeightsOrigin(source="a file", license=license_name, page="https://example.invalid")
    return Provenance.read(run).model_copy(update={"weights": weights or None})


@pytest.mark.parametrize(
    ("known", "stated", "accepted", "fields"),
    [
        ("apache-2.0", None, False, {"license": "apache-2.0"}),
        ("MIT", "mit", False, {"license": "mit"}),
        ("cc-by-nc-4.0", None, False, {"license": "cc-by-nc-4.0"}),
        ("not known", "mit", False, {"license": "mit"}),
        (
            "dinov3-license",
            None,
            True,
            {"license": "other", "license_name": "dinov3-license", "license_link": "https://example.invalid"},
        ),
        (None, None, False, {"license": "other", "license_name": "data", "license_link": "README.md"}),
    ],
)
def test_license_is_inherited(known, stated, accepted, fields, run):
    assert license_fields(record(run, known), stated=stated, accepted=accepted) == fields


@pytest.mark.parametrize(
    ("known", "stated"),
    [
        ("cc-by-nc-nd-4.0", None),  # no derivatives
        ("dinov3-license", None),  # has conditions
        ("not known", None),
        ("not stated", None),
        ("cc-by-nc-4.0", "apache-2.0"),
    ],
)
def test_license_that_forbids_it_or_is_not_known_stops_the_upload(known, stated, run, hub):
    record(run, known).write(run)
    with pytest.raises(ModelError):
        push_model(run.root, "lab/phantoms", license_name=stated)
    assert hub.requests == []


def test_card_states_the_license(run, hub):
    record(run, "Apache-2.0").write(run)
    (pushed,) = push_model(run.root, "lab/phantoms")
    card = hub.repositories["lab/phantoms"].commits[pushed.revision]["README.md"].decode()
    data = huggingface_hub.ModelCard(card).data
    assert (data.get("license"), data.get("license_name")) == ("apache-2.0", None)
    assert "Not a medical device" in card or "research" in card
