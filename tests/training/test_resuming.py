"""Resuming with more steps, from moved data and from checkpoints that are not ours; what users add to a training."""

import io
import os
import shutil
import signal
import zipfile

import pytest
import pytorch_lightning as lightning
import torch

from inflate3d.config import RunConfig
from inflate3d.errors import ModelError
from inflate3d.models.segmenter import load_model
from inflate3d.run_folder import RunFolder
from inflate3d.stopping import Interrupted
from inflate3d.training.optimization import schedule
from inflate3d.training.resuming import check_checkpoint
from inflate3d.training.run import train


def with_training(config, **training):
    return config.model_copy(update={"training": config.training.model_copy(update=training)})


@pytest.fixture
def run(tiny_run, tmp_path):
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(tiny_run.root, folder.root)
    return folder


@pytest.mark.slow
def test_larger_steps_extend_a_finished_training(run, tiny_config, phantom_store):
    before = load_model(run.root)
    longer = with_training(tiny_config, steps=4)
    assert train(longer, run, phantom_store, resume=True)
    settings = RunConfig.read(run.config).training
    assert (settings.steps, settings.extended_from) == (4, 2)
    assert torch.load(run.last, weights_only=True)["global_step"] == 4
    kept = load_model(run.root / "after-2-steps")
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), kept.parameters(), strict=True))
    written = run.last.stat().st_mtime_ns
    assert train(longer, run, phantom_store, resume=True)  # finished: nothing is left to do
    assert run.last.stat().st_mtime_ns == written


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["missing", "short"])
def test_training_without_a_whole_checkpoint_is_not_extended(run, tiny_config, phantom_store, damage):
    before = {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file() and path != run.last}
    whole = run.last.read_bytes()
    run.last.unlink() if damage == "missing" else run.last.write_bytes(whole[:1000])
    with pytest.raises(ModelError, match="checkpoint"):
        train(with_training(tiny_config, steps=4), run, phantom_store, resume=True)
    assert all(path.read_bytes() == content for path, content in before.items())


def test_extended_training_does_not_start_over(run, tiny_config, phantom_store):
    longer = with_training(tiny_config, steps=4, extended_from=2)
    longer.resolve(phantom_store.plan.defaults).write(run.config)
    shutil.rmtree(run.model)
    run.last.unlink()
    with pytest.raises(ModelError, match="last checkpoint"):
        train(with_training(tiny_config, steps=4), run, phantom_store, resume=True)


def test_schedule_of_an_extended_training_starts_anew():
    plain = schedule(with_steps(100, 0))
    extended = schedule(with_steps(300, 200))
    assert [extended(200 + step) for step in range(101)] == [plain(step) for step in range(101)]


def with_steps(steps, start):
    from inflate3d.config import TrainingConfig

    return TrainingConfig(steps=steps, extended_from=start, warmup_steps=5)


def test_moved_dataset_is_compared_by_content(run, tiny_config, phantom_store, tmp_path):
    shutil.rmtree(run.model)
    run.last.unlink()
    moved = tiny_config.model_copy(update={"dataset": tmp_path / "elsewhere"})
    assert train(moved, run, phantom_store, resume=True)
    assert RunConfig.read(run.config).dataset == tmp_path / "elsewhere"


def archive(pickled):
    """A torch file with this pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as whole:
        whole.writestr("archive/data.pkl", pickled)
        whole.writestr("archive/version", b"3\n")
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 cut short",
        b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        b"not a file" * 99,
        archive(b"\x80\x04c__builtin__\nbytearray\n\x8a\x05\x00\x28\x6b\xee\x00\x85R."),  # 4 GB
    ],
)
def test_invalid_checkpoint_is_one_error(run, tiny_config, phantom_store, content):
    shutil.rmtree(run.model)
    run.last.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        train(tiny_config, run, phantom_store, resume=True)
    assert caught.value.file == str(run.last)
    assert "weights_only" not in str(caught.value)
    assert run.last.read_bytes() == content


def test_flipped_bit_in_a_checkpoint_is_noticed(run):
    check_checkpoint(run.last)
    content = bytearray(run.last.read_bytes())
    content[len(content) // 2] ^= 1  # a weight or a moment of it: torch's loader takes it
    run.last.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        check_checkpoint(run.last)
    assert "checksum" in str(caught.value.got)


def test_checkpoint_of_another_network_is_one_error(run, tiny_config, phantom_store):
    shutil.rmtree(run.model)
    state = torch.load(run.last, weights_only=True)
    state["state_dict"] = {"model.other": torch.zeros(1)}
    torch.save(state, run.last)
    with pytest.raises(ModelError) as caught:
        train(tiny_config, run, phantom_store, resume=True)
    assert caught.value.file == str(run.last)


def test_second_interrupt_stops_at_once(tiny_config, phantom_store, tmp_path):
    class Twice(lightning.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted) as caught:
        train(tiny_config, RunFolder(tmp_path / "run"), phantom_store, callbacks=[Twice()])
    assert (caught.value.number, caught.value.step) == (signal.SIGINT, None)


@pytest.mark.slow
def test_augmentation_and_callbacks_of_the_user(tiny_config, phantom_store, tmp_path):
    seen = []

    class Count(lightning.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            seen.append("batch")

    def augment(images, labels, generator):
        seen.append((tuple(images.shape), tuple(labels.shape)))
        noise = torch.randn(images.shape, generator=generator, device=images.device)
        return images + 0.01 * noise, labels

    train(tiny_config, RunFolder(tmp_path / "run"), phantom_store, augment=augment, callbacks=[Count()])
    assert seen == [((2, 1, 3, 64, 64), (2, 4, 1, 64, 64)), "batch"] * 2


def test_class_without_a_training_case_is_reported(tiny_config, phantom_store, tmp_path, monkeypatch, caplog):
    for case in phantom_store.cases.values():
        monkeypatch.setitem(case.__dict__, "slices", {key: value for key, value in case.slices.items() if key != 1})
    train(tiny_config, RunFolder(tmp_path / "run"), phantom_store)
    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert phantom_store.plan.class_names[1] in message
