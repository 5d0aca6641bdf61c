import shutil

import pytest

from inflate3d.errors import ConfigError, ModelError
from inflate3d.inference.ensemble import check_agreement, find_models
from inflate3d.inference.flips import combine_flips
from inflate3d.inference.predictor import Predictor


@pytest.fixture
def folds(tiny_run, tmp_path):
    for name in ("fold1", "fold0"):
        shutil.copytree(tiny_run.root, tmp_path / "folds" / name)
    (tmp_path / "folds" / "notes").mkdir()
    return tmp_path / "folds"


def test_run_and_model_folder_stand_for_themselves(tiny_run):
    assert find_models(tiny_run.root) == [tiny_run.root]
    assert find_models(tiny_run.model) == [tiny_run.model]


def test_folder_of_runs_stands_for_all(folds):
    assert find_models(folds) == [folds / "fold0", folds / "fold1"]
    assert len(Predictor.load(folds, ensemble=[folds / "fold1"], device="cpu").models) == 3


def test_unfinished_fold_is_no_fold(folds):
    shutil.rmtree(folds / "fold1" / "model")
    with pytest.raises(ModelError) as caught:
        find_models(folds)
    assert caught.value.got == "fold1"


def test_folder_without_models(tmp_path):
    with pytest.raises(ModelError):
        Predictor.load(tmp_path)


def test_checkpoint_is_not_a_model_and_its_run_is_named(tiny_run):
    with pytest.raises(ModelError) as caught:
        Predictor.load(tiny_run.last)
    assert caught.value.file == str(tiny_run.last)
    assert str(tiny_run.root) in str(caught.value.hint)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"classes": {0: "background", 7: "class 1", 15: "class 2"}}, "classes"),
        ({"classes": {0: "background", 7: "other", 14: "class 2"}}, "classes"),
        ({"modalities": ("T1",)}, "modalities"),
        ({"depth_axis": "sagittal"}, "depth axes"),
        ({"slice_spacing": 2.0}, "slice spacings"),
    ],
)
def test_what_models_must_agree_in(sums, tmp_path, change, what):
    plan = sums().plan
    with pytest.raises(ModelError, match=f"their {what} differ") as caught:
        check_agreement([plan, plan, plan.model_copy(update=change)], [tmp_path / name for name in "abc"])
    assert caught.value.file == str(tmp_path / "c")
    other = sums()
    other.plan = plan.model_copy(update=change)
    with pytest.raises(ModelError, match=f"their {what} differ"):
        Predictor([sums(), other], device="cpu")


def test_what_models_may_differ_in(sums):
    models = [sums(), sums(depth=5, image_size=(8, 8), pixel_spacing=(1.0, 2.0), flips=(False, False, False))]
    assert Predictor(models, device="cpu", flips=True).plan == models[0].plan


def test_missing_modality_must_be_allowed_by_all(sums):
    models = [sums(allow_missing_modality=True), sums()]
    assert not Predictor(models, device="cpu").plan.allow_missing_modality
    assert Predictor(models[:1], device="cpu").plan.allow_missing_modality


def test_combine_flips_axes():
    assert combine_flips((False, False, False)) == ((),)
    assert combine_flips((True, False, True)) == ((), (-3,), (-1,), (-3, -1))
    assert len(combine_flips((True, True, True))) == 8


def test_plan_that_allows_no_mirror(sums):
    with pytest.raises(ConfigError, match="flips are disabled"):
        Predictor(sums(flips=(False, False, False)), device="cpu", flips=True)
