"""Where the 2D weights of a run are from: whose they are, under which license, and the checksum of their file."""

from __future__ import annotations

from pathlib import Path

from inflate3d.config import ModelConfig
from inflate3d.errors import ModelError
from inflate3d.models.backbones import find_backbone
from inflate3d.models.download import sha256_of
from inflate3d.models.published import PUBLISHED, PublishedWeights, published_path, weights_folder
from inflate3d.models.timm_backbones import published_settings
from inflate3d.settings import FrozenModel

UNKNOWN_LICENSE = "not known"


class WeightsOrigin(FrozenModel):
    """Whose 2D weights a network starts from.

    Attributes:
        source: In words: timm's hub id, the name of a published file, or a file of the user's.
        hub_id: The model's id on the Hugging Face hub, where they are from there.
        file: The file's name.
        sha256: Its checksum; none where timm keeps it in a place that isn't known.
        license: SPDX identifier, "see source" or "not known".
        page: Where its terms are told; none where that is not known.
    """

    source: str
    hub_id: str | None = None
    file: str | None = None
    sha256: str | None = None
    license: str = UNKNOWN_LICENSE
    page: str | None = None


def weights_origin(config: ModelConfig) -> WeightsOrigin | None:
    """Where a run's 2D weights are from; the file must be on this machine already to be told its checksum.

    Returns:
        None for a network that starts from random weights.

    Raises:
        ModelError: There is no such file, or no such backbone.
    """
    if not config.pretrained:
        return None
    named = config.resolved_weights
    if named == "timm":
        return _from_timm(find_backbone(config.encoder).name)
    if named in PUBLISHED:
        return _published(named, PUBLISHED[named], sha256_of(published_path(PUBLISHED[named])))
    return _from_file(Path(named))


def check_weights(before: WeightsOrigin | None, now: WeightsOrigin | None) -> None:
    """Makes sure that the 2D weights are those that a run started from.

    Args:
        before: What the run noted.
        now: What its configuration names on this machine.

    Raises:
        ModelError: They are not.
    """
    if before is None or now is None or before.sha256 is None or now.sha256 is None:
        return
    if before.sha256 != now.sha256:
        raise ModelError(
            "the 2D weights are not those that the run started from",
            expected=f"{before.source} with the SHA-256 checksum {before.sha256}",
            got=now.sha256,
            hint="bring the file back, or name another place of it by --weights",
            file=now.file,
        )


def _from_timm(name: str) -> WeightsOrigin:
    settings = published_settings(name)
    hub_id, url = settings.hf_hub_id, settings.url
    file = _hub_file(hub_id, settings.hf_hub_filename) if hub_id else _downloaded_file(str(url))
    return WeightsOrigin(
        source=f"timm, hf-hub:{hub_id}" if hub_id else f"timm, {url}",
        hub_id=hub_id,
        file=file.name if file else None,
        sha256=sha256_of(file) if file else None,
        license=settings.license or UNKNOWN_LICENSE,
        page=f"https://huggingface.co/{hub_id}" if hub_id else settings.origin_url,
    )


def _hub_file(hub_id: str, named: str | None) -> Path | None:
    """The file in the hub's cache that timm reads: safetensors before any other, as timm does."""
    from huggingface_hub import try_to_load_from_cache

    usual = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    wanted = (str(Path(named).with_suffix(".safetensors")), named) if named else usual
    for name in wanted:
        found = try_to_load_from_cache(hub_id, name)
        if isinstance(found, str):
            return Path(found)
    return None


def _downloaded_file(url: str) -> Path | None:
    """The file in the folder of torch.hub."""
    path = weights_folder() / Path(url).name
    return path if path.is_file() else None


def _published(name: str, weights: PublishedWeights, checksum: str) -> WeightsOrigin:
    about = f"{name}: {weights.about}"
    return WeightsOrigin(source=about, file=weights.file, sha256=checksum, license=weights.license, page=weights.source)


def _from_file(path: Path) -> WeightsOrigin:
    """A file of the user's; it may be one that is known by its checksum."""
    try:
        checksum = sha256_of(path)
    except OSError as error:
        raise ModelError("the 2D weights can't be read", got=error.strerror, file=path) from error
    for name, weights in PUBLISHED.items():
        if weights.sha256 == checksum:
            return _published(name, weights, checksum)
    return WeightsOrigin(source=f"file {path.name}", file=path.name, sha256=checksum)
