import json
import shutil
from pathlib import Path

import nibabel.orientations as orientations
import numpy as np
import pytest
import torch

from inflate3d.datasets import Split
from inflate3d.errors import ConfigError, DataError, ModelError
from inflate3d.inference.memory import Budget
from inflate3d.inference.predictor import Predictor
from inflate3d.inference.runs import evaluate_run
from inflate3d.inference.slices import SliceBatches
from inflate3d.io import read_volume
from inflate3d.models.encoders import create_encoder
from inflate3d.models.segmenter import create_model
from inflate3d.resampling import slice_weights
from inflate3d.run_folder import RunFolder
from inflate3d.volume import Volume
from inflate3d.windows.datamodule import Windows
from inflate3d.windows.resample import normalize, resample_windows
from inflate3d.windows.sampling import SampleLocation


@pytest.fixture(scope="module")
def predictor(random_model):
    return Predictor(random_model, device="cpu")


@pytest.fixture(scope="module")
def scan(phantoms):
    return read_volume(phantoms.cases[4].scan)


@pytest.fixture(scope="module")
def labels(predictor, scan):
    return predictor.predict(scan).labels


def test_labels_lie_on_the_scans_own_grid_and_have_its_label_values(labels, scan):
    assert labels.shape == scan.shape
    assert labels.dtype == np.uint16
    assert set(np.unique(labels)) <= {0, 3, 4, 90, 700}
    assert len(np.unique(labels)) > 2


@pytest.mark.slow
@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SLA", "IPR"])
def test_orientation_in_the_file_does_not_matter(predictor, scan, labels, codes):
    turn = orientations.ornt_transform(
        orientations.io_orientation(scan.affine), orientations.axcodes2ornt(tuple(codes))
    )
    affine = scan.affine @ orientations.inv_ornt_aff(turn, scan.shape)
    turned = Volume(orientations.apply_orientation(scan.array[0], turn)[np.newaxis], affine)
    assert np.array_equal(predictor.predict(turned).labels, orientations.apply_orientation(labels, turn))


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 5, 1000])
def test_batch_size_changes_nothing(predictor, scan, labels, batch_size):
    other = Predictor(predictor.models, device="cpu", batch_size=batch_size)
    assert (other.predict(scan).labels != labels).mean() < 1e-4  # sums in another order


@pytest.mark.slow
def test_default_type_of_the_calling_program_changes_nothing(predictor, scan, labels):
    torch.set_default_dtype(torch.float64)
    try:
        assert np.array_equal(predictor.predict(scan).labels, labels)
        assert torch.get_default_dtype() == torch.float64
        encoder = create_encoder("resnet10t", depth=3, image_size=64, weights="none")
    finally:
        torch.set_default_dtype(torch.float32)
    assert {weight.dtype for weight in encoder.parameters()} == {torch.float32}


@pytest.mark.slow
def test_training_and_prediction_see_the_same_tensors(predictor, phantoms, phantom_store, monkeypatch):
    case = phantoms.cases[2]
    seen = []
    real = predictor.models[0].forward
    monkeypatch.setattr(predictor.models[0], "forward", lambda windows: seen.append(windows) or real(windows))
    logits = [part for (part,) in predictor._slice_logits(predictor._to_model_space(read_volume(case.scan)))]
    depth = phantom_store.cases[case.id].shape[0]
    assert sum(map(len, logits)) == depth

    windows = Windows(phantom_store, lambda index: SampleLocation(case.id, index), depth=3)
    for index in range(depth):
        batch = windows[index]
        prepared = resample_windows(
            normalize(batch.windows, batch.ranges), torch.eye(2, 3).expand(1, 2, 3), (64, 64), batch.extents
        )
        predicted = torch.cat(seen)[index]
        assert torch.allclose(predicted, prepared[0], atol=1e-5)
        if index in (0, 9):
            assert torch.equal(
                predicted,
                resample_windows(normalize(batch.windows, batch.ranges), torch.eye(2, 3).expand(1, 2, 3), (64, 64))[0],
            )


@pytest.mark.slow
def test_pixels_are_the_logits_enlarged_to_the_slices_own(predictor, scan, labels):
    framed = predictor._to_model_space(scan)
    classes = []
    for (logits,) in predictor._slice_logits(framed):
        _, rows, columns = framed.own_shape
        enlarged = torch.nn.functional.interpolate(logits, (rows, columns), mode="bilinear")
        classes.append(enlarged.argmax(1))
    values = predictor.plan.label_values[torch.cat(classes).numpy()]
    assert np.array_equal(framed.orientation.undo(values), labels)


@pytest.mark.slow
@pytest.mark.parametrize(("spacing", "batch_size"), [(0.7, 4), (1.9, 1), (1.9, 1000), (4.0, 4), (60.0, 4)])
def test_resampled_slices_come_back_to_the_scans_own(predictor, scan, spacing, batch_size, monkeypatch):
    """The stream of batches gives what interpolating all slices at once gives."""
    one_slice = predictor.models[0].architecture.model_copy(update={"depth": 1})
    monkeypatch.setattr(predictor.models[0], "architecture", one_slice)
    monkeypatch.setattr(predictor.models[0], "forward", lambda windows: windows[:, 0])
    monkeypatch.setattr(predictor.models[0], "plan", predictor.plan.model_copy(update={"slice_spacing": spacing}))
    predictor = Predictor(predictor.models, device="cpu", batch_size=batch_size)
    framed = predictor._to_model_space(scan)
    parts = [part for (part,) in predictor._slice_logits(framed)]
    batches = SliceBatches(predictor._scorers, framed, batch_size=batch_size, budget=Budget(predictor.device, None))
    everything = torch.cat([part for (part,) in batches.logits(np.arange(framed.slices))])
    assert len(everything) == framed.slices != framed.own_shape[0]
    scores = everything[:, 0].numpy()
    lower, upper, weight = slice_weights(scores.shape[-3], framed.own_shape[0])
    weight = weight[:, None, None].astype(np.float32)
    expected = scores[..., lower, :, :] * (1 - weight) + scores[..., upper, :, :] * weight
    np.testing.assert_allclose(torch.cat(parts)[:, 0].numpy(), expected, atol=1e-5)


@pytest.mark.slow
def test_spacing_changes_neither_shape_nor_label_values(predictor, scan, monkeypatch):
    spaced = predictor.plan.model_copy(update={"slice_spacing": 2.0, "pixel_spacing": (1.5, 1.5), "stride": 2})
    monkeypatch.setattr(predictor.models[0], "plan", spaced)
    labels = Predictor(predictor.models, device="cpu").predict(scan).labels
    assert labels.shape == scan.shape
    assert set(np.unique(labels)) <= {0, 3, 4, 90, 700}


@pytest.mark.slow
def test_integer_scans_of_any_type_are_taken(predictor, scan, labels):
    assert np.array_equal(predictor.predict(Volume(scan.array.astype(np.float64), scan.affine)).labels, labels)
    assert np.array_equal(predictor.predict(Volume(scan.array.astype(">i2"), scan.affine)).labels, labels)


def test_thin_scan(predictor, scan):
    framed = predictor._to_model_space(scan)
    with pytest.raises(DataError) as caught:
        predictor.predict(Volume(framed.scan.voxels[:, :2].transpose(0, 2, 3, 1), np.diag([1.0, 1, 3, 1])))
    assert caught.value.got == "2 slices"


def test_wrong_number_of_modalities(predictor, scan):
    with pytest.raises(DataError, match="wrong number of modalities"):
        predictor.predict(Volume(np.repeat(scan.array, 2, axis=0), scan.affine))


def test_model_without_a_plan():
    encoder = create_encoder("resnet10t", depth=3, image_size=64, weights="none")
    with pytest.raises(ModelError):
        Predictor(create_model(encoder=encoder, num_classes=2, decoder_channels=8))


@pytest.mark.parametrize("device", ["nonsense", "cpu:x", "cuda:99"])
def test_invalid_and_unavailable_devices_are_refused(predictor, device):
    with pytest.raises(ConfigError) as caught:
        Predictor(predictor.models, device=device)
    assert caught.value.got == device
    assert str(caught.value.expected).startswith("cpu")


@pytest.mark.slow
def test_case_that_the_memory_does_not_suffice_for_is_named(tiny_run, tmp_path, monkeypatch):
    run = RunFolder(Path(shutil.copytree(tiny_run.root, tmp_path / "run")))

    def refuse(self, volume, **_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(Predictor, "predict", refuse)
    with pytest.raises(DataError) as caught:
        evaluate_run(run)
    assert caught.value.case == Split.read(run.split).validation[0]
    assert not run.evaluation.exists()


@pytest.mark.slow
def test_evaluation_scores_the_files_that_it_writes(tiny_run, phantoms, tmp_path):
    run = RunFolder(tmp_path / "run")
    shutil.copytree(tiny_run.root, run.root)
    scores = evaluate_run(run)
    (name,) = scores.cases
    case = next(case for case in phantoms.cases if case.id == name)
    predicted = read_volume(run.prediction(case.id)).array
    label = read_volume(case.label).array
    for index in range(4):
        ours, theirs = predicted == index + 1, label == index + 1
        expected = 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum())
        assert scores.dice[0, index] == pytest.approx(expected)
    assert np.array_equal(predicted[0], Predictor.load(run.root, device="cpu").predict(read_volume(case.scan)).labels)
    assert (run.evaluation / "scores.json").exists()
    trusted = Predictor.load(run.root, device="cpu").predict(read_volume(case.scan), confidence=True).confidence
    assert trusted is not None
    assert scores.confidence is not None
    np.testing.assert_allclose(scores.confidence[0], list(trusted.classes.values()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("classes", {"0": "background", "1": "a"}),
        ("classes", {"0": "background", "-1": "a", "2": "b", "3": "c"}),
        ("modalities", ["CT", "MR"]),
        ("normalization", []),
        ("stride", -1),
        ("slice_spacing", -1.0),
    ],
)
def test_description_whose_plan_is_not_the_networks(tiny_run, tmp_path, name, value):
    folder = Path(shutil.copytree(tiny_run.model, tmp_path / "model"))
    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    description["plan"][name] = value
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises((ConfigError, ModelError)):
        Predictor.load(folder, device="cpu")
