"""The origin of a run's 2D weights: source, license and checksum."""

from __future__ import annotations

from pathlib import Path

from inflate3d.config import InflatedConfig, VolumetricConfig
from inflate3d.errors import ModelError
from inflate3d.models.backbones import find_backbone
from inflate3d.models.checkpoint import find_model_folder
from inflate3d.models.hub import HUB, HubModel, license_of_card
from inflate3d.models.published import PUBLISHED, PublishedWeights, published_path, weights_folder
from inflate3d.models.timm_backbones import published_settings
from inflate3d.provenance import WeightsOrigin, file_sha256


def weights_origin(config: InflatedConfig | VolumetricConfig) -> WeightsOrigin | None:
    """Where a run's 2D weights come from; the checksum is known once the file is on this machine.

    Returns:
        None for a network that starts from random weights.
    """
    if not isinstance(config, InflatedConfig) or not config.pretrained:
        return None
    named = config.resolved_weights
    if named == "timm":
        return _from_timm(find_backbone(config.encoder).name)
    if named in PUBLISHED:
        return _published(named, PUBLISHED[named], file_sha256(published_path(named)))
    if named.startswith(HUB):
        return _from_hub(HubModel.parse(named))
    return _from_file(Path(named))


def _from_timm(name: str) -> WeightsOrigin:
    settings = published_settings(name)
    hub_id, url = settings.hf_hub_id, settings.url
    file = _hub_file(hub_id, settings.hf_hub_filename) if hub_id else _downloaded_file(str(url))
    return WeightsOrigin(
        source=f"timm, hf-hub:{hub_id}" if hub_id else f"timm, {url}",
        hub_id=hub_id,
        file=file.name if file else None,
        sha256=file_sha256(file) if file else None,
        license=settings.license or "not known",
        page=f"https://huggingface.co/{hub_id}" if hub_id else settings.origin_url,
    )


def _hub_file(hub_id: str, named: str | None) -> Path | None:
    """The file in the hub's cache that timm reads: safetensors first, as timm does."""
    from huggingface_hub import try_to_load_from_cache

    usual = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    wanted = (str(Path(named).with_suffix(".safetensors")), named) if named else usual
    for name in wanted:
        found = try_to_load_from_cache(hub_id, name)
        if isinstance(found, str):
            return Path(found)
    return None


def _downloaded_file(url: str) -> Path | None:
    """The file in torch.hub's folder."""
    path = weights_folder() / Path(url).name
    return path if path.is_file() else None


def _published(name: str, weights: PublishedWeights, checksum: str) -> WeightsOrigin:
    about = f"{name}: {weights.about}"
    return WeightsOrigin(
        source=about,
        hub_id=weights.hub_id,
        revision=weights.revision if weights.hub_id else None,
        file=weights.file,
        sha256=checksum,
        license=weights.license,
        page=weights.source,
    )


def _from_hub(model: HubModel) -> WeightsOrigin:
    """A trained model on the hub, by the commit that its copy in the cache is of."""
    folder = model.fetch()
    return WeightsOrigin(
        source=f"hf://{model.hub_id}@{folder.name}",
        hub_id=model.hub_id,
        revision=folder.name,
        file="model.safetensors",
        sha256=file_sha256(folder / "model.safetensors"),
        license=license_of_card(folder),
        page=f"https://huggingface.co/{model.hub_id}",
    )


def _from_file(path: Path) -> WeightsOrigin:
    """A local file or a trained model; a published file is recognized by its checksum."""
    if folder := find_model_folder(path):
        path = folder / "model.safetensors"
    try:
        checksum = file_sha256(path)
    except OSError as error:
        raise ModelError("cannot read the 2D weights", got=error.strerror, file=path) from error
    for name, weights in PUBLISHED.items():
        if weights.sha256 == checksum:
            return _published(name, weights, checksum)
    return WeightsOrigin(source=f"file {path.name}", file=path.name, sha256=checksum)
