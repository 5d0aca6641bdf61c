"""Regions: what they are made of, how the layouts list them, and what makes no sense."""

import dataclasses
import json

import numpy as np
import pytest

from inflate3d.datasets import read_dataset
from inflate3d.datasets.classes import choose_classes
from inflate3d.datasets.regions import Regions
from inflate3d.datasets.writing import write_dataset
from inflate3d.errors import ConfigError, DataError

NESTED = Regions(values={"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}, order=(1, 2, 3))
CROSSING = Regions(values={"liver": (1, 3), "vessel": (2, 3)})
LISTING = """
modalities: [CT]
classes: {0: background, 2: liver, 5: tumor}
regions: {organ: [2, 5], tumor: 5}
"""


@pytest.fixture
def toys(write_toys, tmp_path):
    """Toys whose tumor lies in the liver, described by nobody yet."""
    dataset = write_toys(tmp_path / "Toys", 2)
    (dataset.root / "dataset.json").unlink()
    rows = [f"{case.id},imagesTr/{case.id}.nii.gz,labelsTr/{case.id}.nii.gz" for case in dataset.cases]
    (dataset.root / "cases.csv").write_text("\n".join(["case,image,label", *rows]) + "\n")
    return dataset.root


@pytest.fixture
def brats(write_toys, tmp_path):
    """The same as nnU-Net lists it."""
    dataset = write_toys(tmp_path / "Brats", 2)
    for case in dataset.cases:
        case.scan.rename(case.scan.with_name(f"{case.id}_0000.nii.gz"))

    def describe(labels, **others):
        listing = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz", **others}
        (dataset.root / "dataset.json").write_text(json.dumps(listing))
        return dataset.root

    return describe


def test_dataset_yaml_lists_regions_of_values(toys):
    (toys / "dataset.yaml").write_text(LISTING)
    dataset = read_dataset(toys)
    assert dataset.regions == Regions(values={"organ": (2, 5), "tumor": (5,)})
    assert dataset.targets == {"organ": (2, 5), "tumor": (5,)}
    (toys / "dataset.yaml").write_text(LISTING + "regions_class_order: [2, 5]\n")
    assert read_dataset(toys).regions == Regions(values={"organ": (2, 5), "tumor": (5,)}, order=(2, 5))


def test_nnunet_lists_regions_and_their_order(brats):
    labels = {"background": 0, "organ": [2, 5], "tumor": 5, "ignore": 7}
    dataset = read_dataset(brats(labels, regions_class_order=[2, 5]))
    assert dataset.classes == {0: "background", 2: "organ", 5: "organ + tumor"}
    assert dataset.regions == Regions(values={"organ": (2, 5), "tumor": (5,)}, order=(2, 5))
    assert dataset.ignore == 7


@pytest.mark.parametrize(
    ("labels", "order", "message"),
    [
        ({"organ": [2, 5], "tumor": [5]}, [], "no regions_class_order"),
        ({"organ": [2, 5], "tumor": [5]}, [2], "1 values for 2 regions"),
        ({"tumor": [5], "organ": [2, 5]}, [5, 2], "writes 2 (in organ) for 5 (in tumor, organ)"),
        ({"organ": [2, 5], "tumor": [5, 2]}, [2, 5], "same values"),
        ({"organ": [2, 5], "ignore": 5}, [2], "5, which is ignored"),
        ({"organ": [0, 5]}, [5], "0, which is the background"),
        ({"organ": [5, 5]}, [5], "one twice"),
    ],
)
def test_regions_that_make_no_sense_to_nnunet(brats, labels, order, message):
    with pytest.raises(DataError, match="regions") as caught:
        read_dataset(brats({"background": 0, **labels}, regions_class_order=order))
    assert message in str(caught.value.got)
    assert str(caught.value.file).endswith("dataset.json")


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ("{organ: [2, 5], tumor: [4]}", "4, which is no class"),
        ("{organ: [2], background: [5]}", "background"),
        ("{organ: [2]}", "5 (tumor) is in no region"),
        ("{organ: []}", "no value"),
    ],
)
def test_regions_that_make_no_sense_in_dataset_yaml(toys, regions, message):
    (toys / "dataset.yaml").write_text(LISTING.rsplit("regions", 1)[0] + f"regions: {regions}\n")
    with pytest.raises(DataError, match="invalid regions") as caught:
        read_dataset(toys)
    assert message in str(caught.value.got)


def test_an_order_needs_regions(toys):
    (toys / "dataset.yaml").write_text(LISTING.rsplit("regions", 1)[0] + "regions_class_order: [2]\n")
    with pytest.raises(DataError, match="invalid regions"):
        read_dataset(toys)


@pytest.mark.parametrize("layout", ["folder", "nnunet"])
def test_regions_survive_conversion(toys, tmp_path, layout):
    (toys / "dataset.yaml").write_text(LISTING)
    written = write_dataset(read_dataset(toys), tmp_path / layout, layout).dataset
    numbers = {2: 2, 5: 5} if layout == "folder" else {2: 1, 5: 2}
    assert written.regions is not None
    assert written.regions.values == {"organ": (numbers[2], numbers[5]), "tumor": (numbers[5],)}
    assert written.regions.order == (() if layout == "folder" else (1, 2))


def test_layouts_without_regions_refuse_them(toys, tmp_path):
    (toys / "dataset.yaml").write_text(LISTING)
    with pytest.raises(DataError, match="regions"):
        write_dataset(read_dataset(toys), tmp_path / "msd", "msd")
    assert not (tmp_path / "msd").exists()
    crossing = dataclasses.replace(read_dataset(toys), regions=Regions(values={"a": (2, 5), "b": (5,), "c": (2,)}))
    assert crossing.regions is not None and crossing.regions.in_order() is not None  # one holds the other two
    assert CROSSING.in_order() is None


def test_only_some_regions_are_chosen(toys):
    (toys / "dataset.yaml").write_text(LISTING + "regions_class_order: [2, 5]\n")
    dataset = choose_classes(read_dataset(toys), keep=["Tumor"])
    assert dataset.regions == Regions(values={"tumor": (5,)}, order=(5,))
    assert (dataset.classes, dataset.merged) == ({0: "background", 5: "tumor"}, {2: 0})
    with pytest.raises(ConfigError, match="unknown region"):
        choose_classes(read_dataset(toys), keep=["liver"])
    with pytest.raises(ConfigError, match="merged"):
        choose_classes(read_dataset(toys), merge=["all=2+5"])
    with pytest.raises(ConfigError, match="ignored"):
        choose_classes(read_dataset(toys), ignore="5")


def test_a_kept_region_keeps_an_order_only_if_it_is_right():
    kidneys = Regions(values={"kidney": (1, 2, 3), "mass": (2, 3), "tumor": (2,)}, order=(1, 3, 2))
    assert kidneys.mistake(dict.fromkeys(range(4), "")) is None
    assert kidneys.keep(["kidney", "tumor"]) == Regions(values={"kidney": (1, 2, 3), "tumor": (2,)}, order=(1, 2))
    crossed = Regions(values={"a": (1, 2), "b": (2, 3), "c": (3, 1)}, order=())
    assert crossed.keep(["a"]).order == ()


def test_values_take_and_lose_regions():
    assert [NESTED.without(3, name) for name in NESTED.names] == [0, 1, 2]
    assert [NESTED.adding(0, name) for name in NESTED.names] == [1, 2, 3]
    assert (CROSSING.without(3, "liver"), CROSSING.adding(1, "vessel"), CROSSING.adding(0, "vessel")) == (2, 3, 2)
    exclusive = Regions(values={"a": (1,), "b": (2,)})
    assert (exclusive.adding(1, "b"), exclusive.without(1, "a")) == (1, 0)  # no value is in both


def test_members_and_names():
    assert np.array_equal(CROSSING.members([0, 1, 2, 3]), [[0, 1, 0, 1], [0, 0, 1, 1]])
    assert CROSSING.name_values() == {1: "liver", 2: "vessel", 3: "liver + vessel"}
    assert Regions(values={"whole": (1, 2)}).name_values() == {1: "whole (1)", 2: "whole (2)"}
