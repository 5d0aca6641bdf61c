"""Options that the paper's ablations vary."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from inflate3d.cli import main
from inflate3d.config import InflatedConfig, RunConfig, TrainingConfig, TrainingDefaults, VolumetricConfig
from inflate3d.errors import ConfigError, DataError
from inflate3d.models.encoders import create_encoder
from inflate3d.models.segmenter import Segmenter, create_model, load_model
from inflate3d.preparation.plan import Plan
from inflate3d.run_folder import RunFolder
from inflate3d.training.optimization import describe_rates, freeze, freeze_layers, make_optimizer
from inflate3d.training.run import train


def with_changes(config, model=(), **training):
    return config.model_copy(
        update={
            "model": config.model.model_copy(update=dict(model)),
            "training": config.training.model_copy(update={"steps": 1, "validate_every": 1, **training}),
        }
    )


def tiny(name="vit_tiny_patch16_224", **changes):
    torch.manual_seed(0)
    encoder = create_encoder(name, depth=3, image_size=64, weights="none")
    return create_model(encoder=encoder, num_classes=5, decoder_channels=8, detail_channels=4, **changes)


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "stride"), [(1, 3), (3, 2), (5, 3), (9, 2), (21, 1)])
def test_any_depth_and_stride(tiny_config, phantom_store, tmp_path, depth, stride):
    """A run takes another stride than the store was prepared with."""
    folder = RunFolder(tmp_path / "run")
    config = with_changes(tiny_config, model={"depth": depth, "stride": stride})
    if (depth - 1) * stride >= min(case.shape[0] for case in phantom_store.cases.values()):
        with pytest.raises(DataError, match="fewer slices than the window"):
            train(config, folder, phantom_store)
        return
    train(config, folder, phantom_store)
    plan = load_model(folder.root).plan
    assert plan is not None
    assert plan.stride == Plan.read(folder.plan).stride == stride
    assert phantom_store.plan.stride == 1


@pytest.mark.slow
def test_stride_of_the_command_is_the_runs(tiny_config, tiny_run, phantoms, phantom_store, tmp_path):
    model = ["--encoder", "resnet10t", "--weights", "none", "--depth", "3", "--image-size", "64", "64"]
    how = ["--steps", "1", "--batch-size", "2", "--validation-cases", "1", "--accelerator", "cpu", "--workers", "0"]
    where = ["--store", str(phantom_store.folder), "--run", str(tmp_path / "run")]
    words = ["train", str(phantoms.root), *where, *model, *how]
    assert main([*words, "--stride", "2"]) == 0
    model_settings = RunConfig.read(RunFolder(tmp_path / "run").config).model
    assert isinstance(model_settings, InflatedConfig) and model_settings.stride == 2
    assert main([*words, "--stride", "3", "--resume"]) == 2
    assert main([*words, "--stride", "2", "--resume"]) == 0


def test_random_stem_beside_other_weights_that_are_trained(tmp_path):
    from safetensors.torch import save_file

    torch.manual_seed(1)
    import timm

    network = timm.create_model("resnet10t")
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    how = {"depth": 3, "image_size": 64, "weights": tmp_path / "weights.safetensors"}
    random, center = (create_encoder("resnet10t", inflation=rule, **how) for rule in ("random", "center"))
    first, second = random.state_dict(), center.state_dict()
    differing = [name for name in first if not torch.equal(first[name], second[name])]
    (stem,) = differing
    assert 0.5 < first[stem].std() * (3 * first[stem][0, 0].numel()) ** 0.5 * 3**0.5 < 2
    assert first[stem].abs().min() > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "part"), [("resnet10t", "encoder"), ("resnet10t", "body"), ("vit_tiny_patch16_224", "body")]
)
def test_frozen_backbone_does_not_change(tiny_config, phantom_store, tmp_path, name, part):
    folder = RunFolder(tmp_path / "run")
    config = with_changes(tiny_config, model={"encoder": name}, steps=2, freeze=part)
    torch.manual_seed(0)
    train(config, folder, phantom_store)
    trained = load_model(folder.root).state_dict()
    start = RunFolder(tmp_path / "start")
    train(with_changes(config, freeze=part, learning_rate=1e-12, encoder_learning_rate=1e-12), start, phantom_store)
    before = load_model(start.root).state_dict()
    changed = [
        key for key in before if not torch.allclose(before[key].float(), trained[key].float(), rtol=0, atol=1e-7)
    ]
    backbone = [key for key in changed if key.startswith("encoder.network.")]
    assert len(backbone) <= (2 if part == "body" else 0)
    assert bool(backbone) == (part == "body")
    assert any(key.startswith("decoder.") for key in changed)


def test_frozen_parameters_have_no_optimizer():
    model = tiny()
    freeze(model, "body")
    trained = {
        id(p)
        for group in make_optimizer(model, TrainingConfig(learning_rate=1e-3, stem_rate_factor=1.0)).param_groups
        for p in group["params"]
    }
    stem = {name for name, p in model.encoder.network.named_parameters() if id(p) in trained}
    assert stem == {"model.patch_embed.proj.weight", "model.patch_embed.proj.bias"}


@pytest.mark.parametrize(
    ("name", "count", "last_frozen", "first_trained"),
    [("vit_tiny_patch16_224", 3, "model.blocks.1", "model.blocks.2"), ("resnet10t", 3, "layer1", "layer2")],
)
def test_first_layers_stay_as_they_are_and_need_no_gradient(name, count, last_frozen, first_trained):
    model = tiny(name).train()
    freeze_layers(model, count)
    network = model.encoder.network
    before = {key: value.clone() for key, value in network.get_submodule(last_frozen).state_dict().items()}
    model(torch.rand(2, 1, 3, 64, 64)).sum().backward()
    trained = [path for path, weight in network.named_parameters() if weight.requires_grad]
    assert trained[0].startswith(first_trained)
    assert [path for path, weight in network.named_parameters() if weight.grad is not None] == trained
    for key, value in network.get_submodule(last_frozen).state_dict().items():
        assert torch.equal(value, before[key]), key  # statistics of batch norms, too
    first, last = model.encoder.network.get_submodule(last_frozen), model.encoder.network.get_submodule(first_trained)
    assert (first.training, last.training) == (False, True)


def test_a_layer_has_to_be_left_to_train():
    model = tiny("resnet10t")
    freeze_layers(model, 5)  # of six
    assert any(weight.requires_grad for weight in model.encoder.network.parameters())
    with pytest.raises(ConfigError):
        freeze_layers(tiny("resnet10t"), 6)


def rates(model, **settings):
    optimizer = make_optimizer(model, TrainingConfig(**{"learning_rate": 1e-3, "stem_rate_factor": 1.0, **settings}))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}


def test_layers_of_a_transformer_learn_slower_toward_the_input():
    found = rates(tiny(), encoder_learning_rate=1.0, stem_rate_factor=0.5**12, learning_rate=3.0)
    blocks = [found[f"encoder.network.model.blocks.{index}.attn.qkv.weight"] for index in range(12)]
    assert blocks == pytest.approx([0.5 ** (11 - index) for index in range(12)])
    assert found["encoder.network.model.patch_embed.proj.weight"] == pytest.approx(0.5**12)
    assert found["encoder.network.model.pos_embed"] == pytest.approx(0.5**12)
    assert {rate for name, rate in found.items() if not name.startswith("encoder.")} == {3.0}


def test_stages_of_a_convolutional_network_learn_slower_toward_the_input():
    found = rates(tiny("resnet10t"), encoder_learning_rate=1.0, stem_rate_factor=0.5**5)
    stages = [found[f"encoder.network.layer{index}.0.conv1.weight"] for index in (1, 2, 3, 4)]
    assert stages == pytest.approx([0.125, 0.25, 0.5, 1.0])
    assert found["encoder.network.conv1.0.weight"] == 0.5**5


def test_stages_that_stand_in_one_row_are_layers_of_their_own():
    found = rates(tiny("efficientnet_lite0"), encoder_learning_rate=1.0, stem_rate_factor=0.5**8)
    rows = {name.split(".")[3]: rate for name, rate in found.items() if name.startswith("encoder.network.blocks.")}
    assert list(rows.values()) == pytest.approx([0.5 ** (len(rows) - 1 - stage) for stage in range(len(rows))])
    assert found["encoder.network.conv_stem.weight"] == 0.5**8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stem", "arguments"),
    [
        ("vit_tiny_patch16_224", "model.patch_embed.proj.weight", {}),
        ("vit_tiny_patch16_224", "model.patch_embed.proj.weight", {"depth": 6}),
        ("swin_tiny_patch4_window7_224", "patch_embed.proj.weight", {}),
        ("convnext_atto", "stem_0.weight", {}),
        ("resnet10t", "conv1.0.weight", {}),
        ("hrnet_w18_small", "conv1.weight", {}),
    ],
)
def test_every_stem_has_the_same_rate_whatever_the_number_of_layers(name, stem, arguments):
    with torch.device("meta"):
        model = create_model(encoder=create_encoder(name, weights="none", arguments=arguments), num_classes=2)
    found = rates(model, encoder_learning_rate=1e-2, stem_rate_factor=0.1, learning_rate=3.0)
    backbone = {path: rate for path, rate in found.items() if path.startswith("encoder.network.")}
    assert backbone[f"encoder.network.{stem}"] == pytest.approx(1e-3)
    assert (min(backbone.values()), max(backbone.values())) == (pytest.approx(1e-3), 1e-2)
    assert {rate for path, rate in found.items() if path not in backbone} == {3.0}  # norms behind Swin's stages, too
    config = TrainingConfig(encoder_learning_rate=1e-2, stem_rate_factor=0.1, learning_rate=3.0)
    assert describe_rates(model, config) == "learning rates: decoder 3, encoder 0.001 in its first layer to 0.01"


def test_without_decay_all_layers_learn_alike():
    assert {rate for name, rate in rates(tiny()).items() if name.startswith("encoder.")} == {1e-4}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "kept"), [({}, True), ({"inflation": "random"}, False), ({"input_scaling": "unit"}, False)]
)
def test_encoder_keeps_the_statistics_that_its_2d_weights_were_trained_with(
    tiny_config, phantom_store, tmp_path, changes, kept
):
    """Those of a few alike slices are worse, and the encoder begins with the features that it had in 2D."""
    backbone = timm.create_model("resnet10t")
    trained = {
        name: torch.full_like(value, 2.0) if "running" in name else value
        for name, value in backbone.state_dict().items()
    }
    save_file(trained, tmp_path / "resnet.safetensors")
    model = {"encoder": "resnet10t", "weights": str(tmp_path / "resnet.safetensors"), "depth": 3} | changes
    folder = RunFolder(tmp_path / "run")
    train(with_changes(tiny_config, model=model), folder, phantom_store)
    trained_on = load_model(folder.root)
    assert isinstance(trained_on, Segmenter)
    found = trained_on.encoder.network.state_dict()
    assert torch.equal(found["bn1.running_mean"], trained["bn1.running_mean"]) == kept
    assert not torch.equal(
        found["layer4.0.conv1.weight"], trained["layer4.0.conv1.weight"]
    )  # weights learn in any case


def test_3d_network_has_nothing_to_freeze(tiny_config, phantom_store, tmp_path):
    config = with_changes(tiny_config, freeze="encoder").model_copy(
        update={"model": VolumetricConfig(network="segresnet")}
    )
    with pytest.raises(ConfigError, match="no pre-trained encoder"):
        train(config, RunFolder(tmp_path / "run"), phantom_store)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("model", "given", "factor"),
    [
        (InflatedConfig(), {}, 0.032),
        (InflatedConfig(weights="weights.safetensors"), {}, 0.032),
        (InflatedConfig(weights="none"), {}, 1.0),
        (InflatedConfig(encoder="vit"), {}, 1.0),  # random weights, by the paper's name
        (VolumetricConfig(network="unetr"), {}, 1.0),
        (InflatedConfig(), {"stem_rate_factor": 1.0}, 1.0),
        (InflatedConfig(weights="none"), {"stem_rate_factor": 0.5}, 0.5),
    ],
)
def test_only_what_starts_from_2d_weights_has_slow_first_layers(model, given, factor):
    assert TrainingConfig(**given).resolve(TrainingDefaults(), model).stem_rate_factor == factor
