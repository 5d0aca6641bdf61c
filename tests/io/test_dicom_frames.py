"""Enhanced multi-frame objects: those that highdicom makes of classic series, and those written here."""

import numpy as np
import pydicom
import pytest
from highdicom.legacy import LegacyConvertedEnhancedCTImage, LegacyConvertedEnhancedMRImage
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless, generate_uid

from inflate3d.errors import DataError
from inflate3d.io import find_series, read_grid, read_volume

ENHANCED = {
    "MR": "1.2.840.10008.5.1.4.1.1.4.1",
    "CT": "1.2.840.10008.5.1.4.1.1.2.1",
    "PT": "1.2.840.10008.5.1.4.1.1.130",
}


def noise(slices=5, rows=6, columns=7, dtype="int16", seed=0):
    return np.random.default_rng(seed).integers(0, 1000, (slices, rows, columns)).astype(dtype)


def item(**values):
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def groups(**sequences):
    """Functional groups, each with one item."""
    return item(**{f"{name}Sequence": Sequence([item(**values)]) for name, values in sequences.items()})


def write_enhanced(path, frames, places, *, modality="MR", orientation=(1, 0, 0, 0, 1, 0), own=None, rescale=None):
    """Writes frames ``(n, rows, columns)`` at places in LPS+; ``own`` gives each frame's further functional groups."""
    frames = np.asarray(frames)
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = UID(ENHANCED[modality])
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = generate_uid()
    image.Modality, image.PatientID, image.SeriesDescription = modality, "patient 7", "enhanced"
    image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3", "1.2.3.9"
    image.NumberOfFrames, image.Rows, image.Columns = frames.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 8 * frames.itemsize
    image.HighBit, image.PixelRepresentation = image.BitsStored - 1, int(frames.dtype.kind == "i")
    image.SharedFunctionalGroupsSequence = Sequence([groups(PixelMeasures={"PixelSpacing": [0.8, 0.7]})])
    image.PerFrameFunctionalGroupsSequence = Sequence()
    for index, place in enumerate(places):
        further = own(index) if own else {}
        if rescale:
            slope, intercept = rescale[index]
            further["PixelValueTransformation"] = {"RescaleSlope": slope, "RescaleIntercept": intercept}
        position = {"ImagePositionPatient": [float(number) for number in place]}
        directions = {"ImageOrientationPatient": list(further.pop("orientation", orientation))}
        image.PerFrameFunctionalGroupsSequence.append(
            groups(PlanePosition=position, PlaneOrientation=directions, **further)
        )
    image.PixelData = frames.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)
    return path


def stack_of(count, step=2.5):
    return [(-30, -20, 12.5 + step * index) for index in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("step", [None, (0, 1, 4)], ids=["straight", "tilted"])
def test_converted_series_is_read_as_the_classic_one(tmp_path, write_series, modality, step):
    rescale = [(1, -1024)] * 5 if modality == "CT" else None
    files = write_series(
        tmp_path / "classic", noise() - 1024 * (modality == "CT"), modality=modality, rescale=rescale, step=step
    )
    classic = [pydicom.dcmread(file) for file in files]
    for image in classic:
        image.FrameOfReferenceUID, image.PatientName = "1.2.3.4.5", ""
        image.ContentDate, image.ContentTime, image.AcquisitionNumber = "20200101", "101010", "1"
    kind = LegacyConvertedEnhancedCTImage if modality == "CT" else LegacyConvertedEnhancedMRImage
    converted = kind(classic, "1.2.9", 2, generate_uid(), 1)
    (tmp_path / "enhanced").mkdir()
    converted.save_as(tmp_path / "enhanced" / "frames.dcm")
    one, other = read_volume(tmp_path / "classic"), read_volume(tmp_path / "enhanced")
    assert np.array_equal(one.array, other.array)
    assert other.array.dtype.kind == "i"
    assert other.affine == pytest.approx(one.affine, abs=1e-9)
    assert read_grid(tmp_path / "enhanced").shape == one.shape
    assert read_grid(tmp_path / "enhanced").dtype == other.array.dtype
    (found,) = find_series(tmp_path / "enhanced")
    assert (found.slices, found.rows, found.columns, found.flaw) == (5, 6, 7, "")


def test_frames_in_any_order_over_several_files(tmp_path):
    values, places = noise(9), stack_of(9)
    order = [4, 0, 8, 2, 6, 1, 7, 3, 5]
    for part, chosen in enumerate((order[:4], order[4:])):
        write_enhanced(tmp_path / f"part{part}", values[chosen], [places[index] for index in chosen])
    volume = read_volume(tmp_path)
    assert np.array_equal(volume.array[0], values.transpose(2, 1, 0))
    assert volume.spacing == pytest.approx((0.7, 0.8, 2.5))
    assert (volume.affine @ [0, 0, 0, 1])[:3].tolist() == [30, 20, 12.5]


@pytest.mark.parametrize("modality", ["CT", "PT"])
def test_each_frame_has_its_slope(tmp_path, modality):
    rescale = [(1, 0), (0.5, -3), (2, -1000)]
    stored = noise(3, dtype="uint16")
    write_enhanced(tmp_path / "scan.dcm", stored, stack_of(3), rescale=rescale, modality=modality)
    volume = read_volume(tmp_path / "scan.dcm")
    expected = [plane * float(slope) + intercept for plane, (slope, intercept) in zip(stored, rescale, strict=True)]
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array[0], np.transpose(expected, (2, 1, 0)))


def test_hounsfield_units_stay_whole(tmp_path):
    stored = noise(3, dtype="uint16")
    write_enhanced(tmp_path / "scan.dcm", stored, stack_of(3), rescale=[(1, -1024)] * 3, modality="CT")
    volume = read_volume(tmp_path)
    assert volume.array.dtype.kind == read_grid(tmp_path).dtype.kind == "i"
    assert np.array_equal(volume.array[0], stored.transpose(2, 1, 0).astype(int) - 1024)


@pytest.mark.parametrize("place", ["the object", "all frames", "each frame"])
@pytest.mark.parametrize("rescaled", [False, True])
def test_values_that_are_mapped_without_a_rescale_slope_are_refused(tmp_path, place, rescaled):
    """The mapping is not needed where there is a rescale slope, which says the unit that is wanted."""
    stored = noise(3, dtype="uint16")
    file = write_enhanced(tmp_path / "scan.dcm", stored, stack_of(3), rescale=[(2, -1)] * 3 if rescaled else None)
    image = pydicom.dcmread(file)
    elsewhere = [image, *image.SharedFunctionalGroupsSequence, image.PerFrameFunctionalGroupsSequence[2]]
    with_mapping = elsewhere[["the object", "all frames", "each frame"].index(place)]
    with_mapping.RealWorldValueMappingSequence = [item(RealWorldValueSlope=0.5, RealWorldValueIntercept=0.0)]
    image.save_as(file)
    if rescaled:
        assert np.array_equal(read_volume(file).array[0], stored.transpose(2, 1, 0).astype(int) * 2 - 1)
        return
    with pytest.raises(DataError) as refused:
        read_volume(file)
    assert refused.value.got == "slope 0.5, intercept 0"
    with_mapping.RealWorldValueMappingSequence[0].RealWorldValueSlope = 1.0
    image.save_as(file)
    assert np.array_equal(read_volume(file).array[0], stored.transpose(2, 1, 0))


B_VALUES = [0, 1000, 500]


def diffusion(index):
    return {"MRDiffusion": {"DiffusionBValue": float(B_VALUES[index % 3])}}


def echoes(index):
    return {"MREcho": {"EffectiveEchoTime": (10.5, 4.5, 20.0)[index % 3]}}


def times(index):
    return {"FrameContent": {"TemporalPositionIndex": (2, 1, 3)[index % 3]}}


@pytest.mark.parametrize(
    ("own", "names", "order"),
    [
        (diffusion, ["b-value 0", "b-value 500", "b-value 1000"], [0, 2, 1]),
        (echoes, ["echo time 4.5", "echo time 10.5", "echo time 20"], [1, 0, 2]),
        (times, ["temporal position 1", "temporal position 2", "temporal position 3"], [1, 0, 2]),
    ],
)
def test_volumes_are_named_and_chosen(tmp_path, own, names, order):
    values = noise(12)
    write_enhanced(tmp_path / "scan", values, [place for place in stack_of(4) for _ in range(3)], own=own)
    with pytest.raises(DataError, match="several volumes") as caught:
        read_volume(tmp_path)
    assert caught.value.got == ", ".join(f"{number}: {name} (4 slices)" for number, name in enumerate(names, start=1))
    for number, first in enumerate(order, start=1):
        volume = read_volume(f"{tmp_path}#{number}")
        assert np.array_equal(volume.array[0], values[first::3].transpose(2, 1, 0))


def test_stacks_of_one_object(tmp_path):
    values, coronal = noise(8), (1, 0, 0, 0, 0, -1)
    places = [*stack_of(4), *((-30, 10 + 2 * index, 40) for index in range(4))]

    def own(index):
        turned = {"orientation": coronal} if index >= 4 else {}
        return {"FrameContent": {"StackID": str(1 + index // 4), "InStackPositionNumber": 1 + index % 4}, **turned}

    write_enhanced(tmp_path / "scan", values, places, own=own)
    with pytest.raises(DataError, match="several volumes") as caught:
        read_volume(tmp_path)
    assert caught.value.got == "1: stack 1 (4 slices), 2: stack 2 (4 slices)"
    assert np.array_equal(read_volume(f"{tmp_path}#1").array[0], values[:4].transpose(2, 1, 0))
    second = read_volume(f"{tmp_path}#2")
    assert np.array_equal(second.array[0], values[4:].transpose(2, 1, 0))
    assert second.affine[:3, 2] == pytest.approx([0, -2, 0])


def test_missing_frame_is_named(tmp_path):
    places = stack_of(6)
    del places[2]
    write_enhanced(tmp_path / "scan", noise(5), places)
    with pytest.raises(DataError, match="slices of the series are missing") as caught:
        read_volume(tmp_path)
    assert "(scan, frame 2)" in str(caught.value.got)


def test_damaged_objects_are_named(tmp_path):
    path = write_enhanced(tmp_path / "scan", noise(5), stack_of(5))
    image = pydicom.dcmread(path)
    del image.PerFrameFunctionalGroupsSequence[-1]
    image.save_as(path)
    with pytest.raises(DataError, match="can't be read") as caught:
        read_volume(tmp_path)
    assert caught.value.file == str(path)
    content = write_enhanced(path, noise(5), stack_of(5)).read_bytes()
    path.write_bytes(content[:-20])
    with pytest.raises(DataError, match="can't be read") as caught:
        read_volume(tmp_path)
    assert caught.value.file == str(path)


def test_compressed_frames(tmp_path):
    path = write_enhanced(tmp_path / "scan", noise(4, dtype="uint16"), stack_of(4))
    plain = read_volume(tmp_path)
    image = pydicom.dcmread(path)
    image.compress(RLELossless)
    image.save_as(path)
    assert read_volume(tmp_path) == plain
