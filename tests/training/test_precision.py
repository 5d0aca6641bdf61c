"""An automatic precision is decided once, by the device, and kept in the run's folder."""

import pytest
import torch

from inflate3d import resources
from inflate3d.config import RunConfig, TrainingConfig, VolumetricConfig
from inflate3d.errors import ConfigError
from inflate3d.run_folder import RunFolder
from inflate3d.training.precision import choose_precision, fast_precision, fast_products
from inflate3d.training.run import train


@pytest.fixture
def machine(monkeypatch):
    """Makes this machine another one."""

    def become(gpu=None, mps=False, cpu=(), speedup=2.0):
        monkeypatch.setattr(resources, "bfloat16_speedup", lambda: speedup)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: gpu)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(cpu, True), raising=False)

    return become


@pytest.mark.parametrize(
    ("accelerator", "has", "precision"),
    [
        ("auto", {"gpu": (9, 0)}, "bf16-mixed"),
        ("gpu", {"gpu": (8, 0)}, "bf16-mixed"),
        ("auto", {"gpu": (7, 5), "cpu": ["avx512_bf16"]}, "32"),
        ("cpu", {"gpu": (7, 5), "cpu": ["avx512_bf16"]}, "bf16-mixed"),
        ("cpu", {"gpu": (9, 0), "cpu": ["avx512_f"]}, "32"),
        ("cpu", {"cpu": ["avx512_bf16"], "speedup": 0.6}, "32"),
        ("auto", {"cpu": ["amx_bf16"]}, "bf16-mixed"),
        ("auto", {"mps": True, "cpu": ["amx_bf16"]}, "32"),
    ],
)
def test_bfloat16_where_the_device_is_faster_in_it(machine, accelerator, has, precision):
    machine(**has)
    assert fast_precision(TrainingConfig(accelerator=accelerator)) == precision


def test_speedup_is_measured_once():
    resources.bfloat16_speedup.cache_clear()
    speedup = resources.bfloat16_speedup()
    assert 0 < speedup < float("inf")
    assert resources.bfloat16_speedup() == speedup  # to the last bit, so it was not measured again


def test_float32_where_torch_does_not_say_what_the_processor_can(machine, monkeypatch):
    machine(cpu=["avx512_bf16"])
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert fast_precision(TrainingConfig()) == "32"


def test_3d_networks_take_float32_on_a_processor(machine, tmp_path):
    """Their convolutions gave NaN at times."""
    machine(cpu=["avx512_bf16"])
    config = RunConfig(dataset=tmp_path, store=tmp_path, training=TrainingConfig(accelerator="cpu"))
    for model, precision in ((config.model, "bf16-mixed"), (VolumetricConfig(network="segresnet"), "32")):
        one = config.model_copy(update={"model": model})
        assert choose_precision(one, RunFolder(tmp_path)).training.precision == precision


@pytest.mark.slow
def test_decided_once_and_kept_on_another_machine(tiny_config, phantom_store, tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "run")
    assert choose_precision(tiny_config, folder) is tiny_config  # float32, as the user says
    config = tiny_config.model_copy(
        update={"training": tiny_config.training.model_copy(update={"precision": "auto", "steps": 1})}
    )
    monkeypatch.setattr("inflate3d.training.precision.fast_precision", lambda training: "bf16-mixed")
    train(config, folder, phantom_store)
    assert RunConfig.read(folder.config).training.precision == "bf16-mixed"
    monkeypatch.setattr("inflate3d.training.precision.fast_precision", lambda training: "32")
    assert choose_precision(config, folder).training.precision == "bf16-mixed"
    assert train(config, folder, phantom_store, resume=True)
    config.check_unchanged(folder.config)
    with pytest.raises(ConfigError) as caught:
        tiny_config.check_unchanged(folder.config)
    assert "precision bf16-mixed" in str(caught.value.expected)


@pytest.mark.parametrize(
    ("has", "precision", "warned"),
    [
        ({}, "bf16-mixed", True),
        ({}, "32", False),
        ({"cpu": ["avx512_bf16"]}, "bf16-mixed", False),
        ({"cpu": ["avx512_bf16"], "speedup": 0.6}, "bf16-mixed", True),
    ],
)
def test_slow_bfloat16_of_a_processor_is_warned_of(machine, tmp_path, caplog, has, precision, warned):
    machine(**has)
    training = TrainingConfig(accelerator="cpu", precision=precision)
    choose_precision(RunConfig(dataset=tmp_path, store=tmp_path, training=training), RunFolder(tmp_path))
    assert ("slower in bfloat16" in caplog.text) == warned


def test_products_are_fast_on_cuda_while_it_trains():
    assert torch.get_float32_matmul_precision() == "highest"
    for kind, expected in (("cpu", "highest"), ("cuda", "high")):
        with fast_products(torch.device(kind)):
            assert torch.get_float32_matmul_precision() == expected
    assert torch.get_float32_matmul_precision() == "highest"
