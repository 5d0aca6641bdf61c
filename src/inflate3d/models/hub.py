"""Models on the Hugging Face hub: ``hf://user/name@revision`` is a model folder, which `inflate3d push` uploads.

Only the description, the weights, the post-processing, the calibration and the card travel: no case, no path and no
code. The models of folds lie in folders of their own. Access tokens, proxies, the cache and ``HF_HUB_OFFLINE`` are
those of huggingface_hub.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inflate3d.documents import parse_json, read_text
from inflate3d.errors import ConfigError, ModelError
from inflate3d.evaluation.calibration import CALIBRATION_FILE
from inflate3d.evaluation.postprocessing.steps import POSTPROCESSING_FILE
from inflate3d.models.card import CARD
from inflate3d.models.checkpoint import find_model_folder, read_model_folder
from inflate3d.models.licenses import license_fields
from inflate3d.provenance import Provenance, PushedModel, file_sha256
from inflate3d.run_folder import RunFolder

HUB = "hf://"

_ADDRESS = re.compile(r"hf://(?P<id>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w./-]+))?/?")
_NEEDED = ("model.json", "model.safetensors")
_OPTIONAL = (POSTPROCESSING_FILE, CALIBRATION_FILE, CARD)

FOLDS_FILE = "folds.json"
"""Names the folders of several models, whose predictions are averaged."""

_FOLDER = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class HubModel:
    """A model on the hub.

    Attributes:
        hub_id: Such as ``"user/name"``.
        revision: A commit, branch or tag; None for the newest.
    """

    hub_id: str
    revision: str | None = None

    @classmethod
    def parse(cls, address: str) -> HubModel:
        """Reads ``hf://user/name@revision``."""
        match = _ADDRESS.fullmatch(address)
        if match is None:
            raise ConfigError("invalid name of a model on the hub", expected="hf://user/name@revision", got=address)
        return cls(match["id"], match["revision"])

    def fetch(self) -> Path:
        """Downloads what is missing in the cache, all of one commit.

        Returns:
            The model folder in the cache; its name is the commit.
        """
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        with _one_message(self):
            try:
                folder, folds = Path(hf_hub_download(self.hub_id, _NEEDED[0], revision=self.revision)).parent, [None]
            except EntryNotFoundError as error:  # or, offline, not in the cache
                folder, folds = self._fetch_folds(error)
            for fold in folds:
                for name in _NEEDED:
                    hf_hub_download(self.hub_id, name, subfolder=fold, revision=folder.name)
            for name in _OPTIONAL:
                self._fetch_optional(name, folder.name)
        return folder

    def _fetch_folds(self, otherwise: Exception) -> tuple[Path, list[str]]:
        """The folder of several models in the cache, and their names; raises an error if there are none."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        try:
            path = Path(hf_hub_download(self.hub_id, FOLDS_FILE, revision=self.revision))
        except EntryNotFoundError:
            raise otherwise from None
        names = parse_json(read_text(path))
        if not isinstance(names, list) or not all(isinstance(each, str) and _FOLDER.fullmatch(each) for each in names):
            raise ModelError("the model's list of folds is damaged", expected="names of folders", got=names, file=path)
        return path.parent, names

    def _fetch_optional(self, name: str, commit: str) -> None:
        """Downloads a file if the commit has it. Offline, that has to be known from the cache."""
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        if try_to_load_from_cache(self.hub_id, name, revision=commit) is not None:
            return  # it is in the cache, or is known not to be on the hub
        try:
            hf_hub_download(self.hub_id, name, revision=commit)
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            pass


def local_model(path: str | Path) -> Path:
    """A folder on this machine: the path itself, or the copy of ``hf://user/name@revision`` in the hub's cache.

    Raises:
        ModelError: The hub does not have the model, or can't be reached and the cache does not have it.
    """
    return HubModel.parse(path).fetch() if isinstance(path, str) and path.startswith(HUB) else Path(path)


def push_model(
    run: Path,
    hub_id: str,
    *,
    folds: Sequence[Path] = (),
    public: bool = False,
    license_name: str | None = None,
    accept_license: bool = False,
) -> list[PushedModel]:
    """Uploads the model of a run, or the models of its folds, in one commit, and records it in their provenance.

    Args:
        run: A run's folder, or a model folder; or a folder of such.
        folds: The folders in it; none if it is a single model.
        hub_id: ``"user/name"``; a private repository is made if there is none.
        public: Whether everybody may see it.
        license_name: License of the 2D weights, if their origin does not state one.
        accept_license: Whether you have read a license with conditions, and it lets you share a model trained from
            these weights.

    Returns:
        What was uploaded, for each model.

    Raises:
        ModelError: There is no model, it changed since its training, its 2D weights forbid it, or the hub refuses it.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    target = HubModel.parse(f"{HUB}{hub_id}")
    models = [_LocalModel.read(each) for each in folds or (run,)]
    licenses = [license_fields(each.provenance, stated=license_name, accepted=accept_license) for each in models]
    if any(fields != licenses[0] for fields in licenses):
        raise ModelError(
            "the models of the folder have different licenses",
            expected="one license",
            got="; ".join(str(fields.get("license", fields)) for fields in licenses),
            hint="push them one by one",
            file=run,
        )
    root = run if folds else models[0].folder
    files = {name: root / name for name in (POSTPROCESSING_FILE, CALIBRATION_FILE)}
    for each in models:
        place = f"{each.run.name}/" if folds else ""
        files |= {f"{place}{name}": each.folder / name for name in _NEEDED}
    operations = [CommitOperationAdd(name, str(file)) for name, file in files.items() if file.exists()]
    operations.append(CommitOperationAdd(CARD, _card(models[0].folder / CARD, licenses[0], len(folds)).encode()))
    if folds:
        operations.append(CommitOperationAdd(FOLDS_FILE, json.dumps([each.name for each in folds]).encode()))
    api = HfApi()
    with _one_message(target):
        api.create_repo(hub_id, private=not public, exist_ok=True)
        if not public and api.model_info(hub_id).private is False:
            raise ModelError(
                "the repository on the hub is public",
                got=hub_id,
                hint="make it private on its page, give another name, or publish the model by --public",
            )
        commit = api.create_commit(hub_id, operations, commit_message="Upload a model of inflate3d")
    return [each.record(PushedModel(hub_id=hub_id, revision=commit.oid, sha256=each.checksum)) for each in models]


@dataclass(frozen=True)
class _LocalModel:
    """A model to upload, which can be loaded and is as it was trained.

    Attributes:
        run: The folder that was given.
        folder: The model folder in it.
        checksum: SHA-256 of the weights.
        provenance: The run's record; None if there is none.
    """

    run: Path
    folder: Path
    checksum: str
    provenance: Provenance | None

    @classmethod
    def read(cls, run: Path) -> _LocalModel:
        read_model_folder(run)  # what can't be loaded is not worth uploading
        folder = find_model_folder(run) or run
        checksum = file_sha256(folder / "model.safetensors")
        record = RunFolder(run)
        provenance = Provenance.read(record) if record.provenance.exists() else None
        if provenance and provenance.model_sha256 not in (None, checksum):
            raise ModelError(
                "the model has changed since it was trained",
                expected=f"the SHA-256 checksum {provenance.model_sha256}",
                got=checksum,
                hint="restore it, or push another run",
                file=folder / "model.safetensors",
            )
        return cls(run, folder, checksum, provenance)

    def record(self, pushed: PushedModel) -> PushedModel:
        """Adds an upload to the run's record."""
        if self.provenance:
            uploads = (*self.provenance.pushed, pushed)
            self.provenance.model_copy(update={"pushed": uploads}).write(RunFolder(self.run))
        return pushed


def license_of_card(folder: Path) -> str:
    """The license that a downloaded model's card states."""
    from huggingface_hub import ModelCard

    path = folder / CARD
    if not path.is_file():
        return "not known"
    data = ModelCard(path.read_text(encoding="utf-8"), ignore_metadata_errors=True).data
    return str(data.get("license_name") or data.get("license") or "not known")


def _card(path: Path, fields: dict[str, str], folds: int = 0) -> str:
    """The model card, with the license in its header; that of the first of several folds says how many there are."""
    from huggingface_hub import ModelCard

    if not path.is_file():
        raise ModelError("the model has no card", expected=CARD, hint="write it by `inflate3d report RUN`", file=path)
    card = ModelCard(path.read_text(encoding="utf-8"), ignore_metadata_errors=True)
    for name in ("license", "license_name", "license_link"):
        card.data.pop(name, None)
    for name, value in fields.items():
        card.data[name] = value
    if folds:
        card.text += (
            f"\n\nThis is the card of the first of {folds} models (folds) here, whose predictions are averaged.\n"
        )
    return str(card)


@contextmanager
def _one_message(model: HubModel) -> Iterator[None]:
    """Turns the errors of huggingface_hub and of the network into one of ours."""
    from huggingface_hub.errors import HfHubHTTPError

    network: type[Exception] = HfHubHTTPError.__mro__[
        1
    ]  # the base class of the HTTP library, which differs between versions
    try:
        yield
    except ModelError:
        raise
    except (network, OSError, ValueError) as error:
        raise _error(model, error) from error


def _error(model: HubModel, error: Exception) -> ModelError:
    from huggingface_hub import errors

    where: dict[str, Any] = {"expected": f"{HUB}{model.hub_id}" + (f"@{model.revision}" if model.revision else "")}
    login = "log in by `hf auth login`, or set HF_TOKEN, to an account that may access it"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return ModelError(
            "the hub can't be reached, and the cache does not have all of the model",
            hint="try again with a network, once; then HF_HUB_OFFLINE=1 works without one",
            **where,
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelError("the hub has no such revision of the model", hint="name a commit, branch or tag", **where)
    if isinstance(error, errors.EntryNotFoundError):
        return ModelError(
            "the repository holds no model of inflate3d", got="no file of a model folder among its files", **where
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelError("the hub has no such model, or you don't have access to it", hint=login, **where)
    got = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    if isinstance(error, errors.HfHubHTTPError):
        return ModelError("the hub refused access", got=got, hint=login, **where)
    return ModelError("the hub is not available", got=got, hint="check the name and the network", **where)
