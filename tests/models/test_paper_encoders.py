"""The paper's encoders against the features that its own implementation computes, from the same seeded weights."""

import json
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from inflate3d.cli import main
from inflate3d.config import Inflation
from inflate3d.errors import ModelError
from inflate3d.models.backbones import find_backbone, nearest_image_size
from inflate3d.models.catalog import check_inflation, describe_encoder, list_encoders
from inflate3d.models.encoders import Encoder, create_encoder
from inflate3d.models.published import PUBLISHED
from inflate3d.models.weights import load_backbone
from inflate3d.named_encoders import PAPER_ENCODERS

DATA = Path(__file__).parents[1] / "data" / "original"
FEATURES = load_file(DATA / "features.safetensors")
ORIGINALS = {  # weight file, what its tensors are nested in, image size, seed of the input
    "beit": ("beit_base_patch16_224_pt22k_ft22k", "model", 224, 12),
    "swint": ("swin_base_patch4_window7_224_22k", "model", 448, 11),
    "videoswint": ("swin_base_patch244_window877_kinetics600_22k", "state_dict", 128, 13),
}
METHODS: dict[str, Inflation] = {"centering": "center", "inflation": "average"}
CASES = sorted({key.rpartition(".")[0] for key in FEATURES})


def seeded_tensors(stem):
    """The tensors of a published file but its classifier's, as those that the original's features come from."""
    shapes = json.loads((DATA / f"{stem}.shapes.json").read_text(encoding="utf-8"))
    return {name: seeded(name, shape) for name, shape in shapes.items() if not name.startswith("head.")}


def seeded(name, shape):
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(f"dev.{name}".encode())))
    tensor *= 0.5 if name.endswith("relative_position_bias_table") else 0.02
    if len(shape) == 1 and (name.endswith("weight") or "gamma_" in name):
        tensor += 1.0
    return tensor


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """The backbones for RGB, filled from files in the published layout; each read once."""
    found = {}

    def load(name):
        if name not in found:
            stem, nested, size, _ = ORIGINALS[name]
            tensors = seeded_tensors(stem)
            file = tmp_path_factory.mktemp(name) / "w.pth"
            torch.save({nested: tensors}, file)
            backbone = find_backbone(name, size)
            found[name] = backbone, *load_backbone(backbone, file), set(tensors)
            file.unlink()
        return found[name]

    return load


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.long if ".C1." in str(case) else ()) for case in CASES]
)
def test_features_are_the_originals(case, filled):
    name, *method, modalities, slices = case.split(".")
    in_channels, depth = int(modalities[1:]), int(slices[1:])
    inflation: Inflation = METHODS[method[0]] if method else "center"
    _, _, size, seed = ORIGINALS[name]
    backbone, rgb, *_ = filled(name)
    network = backbone.build(in_channels, depth)
    backbone.inflate(network, rgb, depth=depth, in_channels=in_channels, inflation=inflation)
    encoder = Encoder(
        network,
        backbone,
        depth=depth,
        in_channels=in_channels,
        inflation=inflation,
        stage_norms=backbone.takes_stage_norms(network),
    ).eval()
    windows = torch.randn(1, in_channels, depth, size, size, generator=torch.Generator().manual_seed(seed))

    with torch.no_grad():
        maps = encoder(windows)

    wanted = [FEATURES[f"{case}.{index}"] for index in range(4)]
    for features, original in zip(maps, wanted, strict=True):
        error = (features[:, ::16, ::4, ::4] - original).abs().max()
        assert error <= 1e-4 * original.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layout"), [("beit", "BEiT"), ("swint", "Swin"), ("videoswint", "Video Swin")], ids=str
)
def test_only_the_final_norm_of_the_published_file_is_unused(name, layout, filled):
    *_, report, _ = filled(name)

    assert report.layout == layout
    assert {tensor.partition(".")[0] for tensor in report.unused} <= {"norm", "fc_norm", "head"}


def test_names_stand_for_their_backbones():
    assert {name: (paper.backbone, paper.weights) for name, paper in PAPER_ENCODERS.items()} == {
        "beit": ("beit_base_patch16_224.in22k_ft_in22k", "timm"),
        "beit-ssl": ("beit_base_patch16_224", "beit_base_patch16_224_pt22k"),
        "swint": ("swin_base_patch4_window7_224.ms_in22k", "timm"),
        "dino": ("vit_base_patch16_224.dino", "timm"),
        "vit": ("vit_base_patch16_224", "none"),
        "videoswint": ("videoswint", "swin_base_patch244_window877_kinetics600_22k"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PAPER_ENCODERS))
def test_name_gives_the_papers_maps(name):
    about = describe_encoder(name)

    plain = (3, 5, 7, 11), (768,) * 4, (16,) * 4
    hierarchical = (0, 1, 2, 3), (128, 256, 512, 1024), (4, 8, 16, 32)
    assert (about.levels, about.channels, about.strides) == (hierarchical if "swin" in name else plain)
    assert about.pretrained is (name != "vit")
    assert about.about == PAPER_ENCODERS[name].about
    assert PAPER_ENCODERS[name].weights in ("timm", "none", *PUBLISHED)


@pytest.mark.slow
def test_inflation_keeps_what_the_original_computes():
    report = check_inflation("swint", in_channels=2, depth=5, image_size=32)  # the others' kinds are tested elsewhere

    assert max(report.errors.values()) < 5e-5


@pytest.mark.slow
def test_vit_begins_with_random_weights():
    encoder = create_encoder("vit", depth=3, image_size=32)

    assert encoder.weights_report is None
    assert (encoder.name, encoder.levels) == ("vit_base_patch16_224", (3, 5, 7, 11))


def test_chosen_levels_come_before_the_papers():
    assert find_backbone("beit", 64, levels=(0, 11)).levels == (0, 11)


@pytest.mark.slow
def test_nearest_image_size_of_a_name():
    assert nearest_image_size("swint", (500, 330)) == (512, 320)


def test_names_are_listed():
    assert list_encoders("beit*")[:2] == ["beit", "beit-ssl"]


@pytest.mark.parametrize(
    ("wrong", "near"), [("swinT", "swint"), ("beitssl", "beit-ssl"), ("video-swint", "videoswint")]
)
def test_unknown_name_tells_the_nearest(wrong, near):
    with pytest.raises(ModelError, match="no backbone is named") as caught:
        create_encoder(wrong, weights=None)
    assert near in str(caught.value.expected)


@pytest.mark.slow
def test_command_tells_what_a_name_stands_for(capsys):
    assert main(["encoders", "vit"]) == 0
    assert "vit: ViT-B/16, random weights" in capsys.readouterr().out


def test_command_tells_the_nearest_names(capsys):
    assert main(["encoders", "swinT"]) == 2
    assert "swint" in capsys.readouterr().err
