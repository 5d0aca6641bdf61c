import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from inflate3d.windows.datamodule import SamplesModule, Slabs, TimedLoader, WindowBatch, Windows, collate
from inflate3d.windows.resample import normalize, normalize_and_resample
from inflate3d.windows.sampling import SampleLocation, WindowSampler
from inflate3d.windows.windows import window_indices


def sampler_of(store):
    return WindowSampler({name: store.cases[name] for name in list(store.cases)[:3]}, 0.5, seed=0)


def module_of(store, *, done=0, accumulate=1, workers=0, rank=0, ranks=1, batches=3):
    windows = Windows(store, sampler_of(store).draw, depth=3)
    module = SamplesModule(windows, list(store.cases)[3:], batch_size=2, batches=batches, workers=workers)
    module.trainer = SimpleNamespace(  # type: ignore[assignment]
        global_step=done, accumulate_grad_batches=accumulate, world_size=ranks, global_rank=rank
    )
    return module


def single(height, width, number, low=-100.0):
    return WindowBatch(
        windows=torch.full((1, 1, 3, height, width), 7.0),
        labels=torch.ones(1, 1, height, width, dtype=torch.int64),
        extents=torch.tensor([[float(height), float(width)]]),
        sides=torch.tensor([[float(height), 2.0 * width]]),
        centers=torch.zeros(1, 2),
        ranges=torch.tensor([[[low, 100.0]]]),
        cases=torch.tensor([number]),
        axes=torch.tensor([0]),
    )


def equal(first, second):
    return all(torch.equal(*pair) for pair in zip(first, second, strict=True))


def test_window_is_what_the_store_holds(phantom_store):
    name = list(phantom_store.cases)[2]
    case = phantom_store.cases[name]
    batch = Windows(phantom_store, [SampleLocation(name, 0)].__getitem__, depth=5)[0]
    expected = phantom_store.image_slices(name, window_indices([0], 5, 1, case.shape[0])[0].tolist())
    assert np.array_equal(batch.windows[0].numpy(), expected.astype(np.float32))
    assert np.array_equal(batch.labels[0, 0].numpy(), phantom_store.label_slice(name, 0))
    assert batch.extents.tolist() == [list(case.shape[1:])]
    assert batch.sides[0].tolist() == pytest.approx(
        [n * mm for n, mm in zip(case.shape[1:], case.spacing[1:], strict=True)]
    )
    assert torch.equal(batch.ranges[0], torch.tensor(case.ranges))
    assert batch.cases.tolist() == [2]


def test_slab_is_neighboring_slices_with_all_their_labels(phantom_store):
    name = list(phantom_store.cases)[2]
    length = phantom_store.cases[name].shape[0]
    firsts = set()
    for number in range(30):
        batch = Slabs(phantom_store, lambda _: SampleLocation(name, length // 2), slices=4, seed=0)[number]
        first = next(
            at
            for at in range(length)
            if np.array_equal(phantom_store.image_slices(name, [at])[0, 0], batch.windows[0, 0, 0])
        )
        slices = list(range(first, first + 4))
        assert length // 2 in slices
        assert np.array_equal(batch.windows[0].numpy(), phantom_store.image_slices(name, slices).astype(np.float32))
        assert np.array_equal(batch.labels[0].numpy(), phantom_store.label_slices(name, slices))
        firsts.add(first)
    assert len(firsts) == 4  # the drawn slice is at each place


def test_slab_of_a_scan_with_fewer_slices_repeats_the_last(phantom_store):
    name = next(iter(phantom_store.cases))
    length = phantom_store.cases[name].shape[0]
    batch = Slabs(phantom_store, lambda _: SampleLocation(name, 0), slices=length + 3, seed=0)[0]
    expected = phantom_store.label_slices(name, [*range(length), *[length - 1] * 3])
    assert np.array_equal(batch.labels[0].numpy(), expected)


def test_smaller_slices_are_padded_with_what_becomes_0():
    batch = collate([single(4, 6, 0, low=-100.0), single(5, 3, 1, low=-50.0)])
    assert batch.windows.shape == (2, 1, 3, 5, 6)
    assert (batch.windows[0, :, :, :4] == 7).all()
    assert (batch.windows[0, :, :, 4:] == -100).all()
    assert (batch.windows[1, :, :, :, 3:] == -50).all()
    assert (normalize(batch.windows, batch.ranges)[1, :, :, :, 3:] == 0).all()
    assert batch.labels.sum(dim=(1, 2, 3)).tolist() == [24, 15]
    assert (batch.labels[0, 0, 4:] == 0).all()
    assert batch.extents.tolist() == [[4, 6], [5, 3]]
    assert batch.cases.tolist() == [0, 1]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32])
def test_slices_of_one_size_keep_the_stores_type(dtype):
    one = single(4, 6, 0)._replace(windows=torch.arange(72).reshape(1, 1, 3, 4, 6).to(dtype))
    batch = collate([one, one])
    assert batch.windows.dtype == dtype
    assert torch.equal(batch.windows, torch.cat([one.windows] * 2))
    as_floats = normalize(batch.windows.float(), batch.ranges)
    assert torch.equal(normalize(batch.windows, batch.ranges), as_floats)


def test_slices_of_different_types_become_floats():
    ones = [
        single(4, 6, number)._replace(windows=torch.ones(1, 1, 3, 4, 6, dtype=dtype))
        for number, dtype in enumerate((torch.uint8, torch.float32))
    ]
    assert torch.equal(collate(ones).windows, torch.ones(2, 1, 3, 4, 6))


def test_labels_travel_as_bytes(phantom_store):
    assert next(iter(module_of(phantom_store).train_dataloader())).labels.dtype == torch.uint8


def test_loader_counts_the_seconds_that_are_waited_for_it(monkeypatch):
    now = SimpleNamespace(value=100.0)
    monkeypatch.setattr(time, "monotonic", lambda: now.value)

    class Slow(list):
        def __getitem__(self, number):
            now.value += 3.0
            return super().__getitem__(number)

    loader = TimedLoader(DataLoader(Slow("ab"), batch_size=None))  # type: ignore[arg-type]
    assert len(loader) == 2
    for _ in loader:
        now.value += 5.0  # a step of the training
    assert loader.seconds == 6.0


def test_window_in_a_padded_batch_is_resampled_as_alone(phantom_store):
    places = [SampleLocation(name, 5) for name in phantom_store.cases]
    windows = Windows(phantom_store, places.__getitem__, depth=3)
    singles = [windows[index] for index in range(len(places))]
    assert len({tuple(batch.labels.shape) for batch in singles}) > 1

    def resampled(batch):
        whole = torch.eye(2, 3).expand(len(batch.windows), 2, 3)
        return normalize_and_resample(batch.windows, batch.ranges, whole, (64, 64), batch.extents)

    together = resampled(collate(singles))
    for index, alone in enumerate(singles):
        assert torch.allclose(together[index], resampled(alone)[0], atol=1e-4)


def test_training_draws_from_training_cases_only(phantom_store):
    batches = list(module_of(phantom_store, batches=20).train_dataloader())
    assert [len(batch.cases) for batch in batches] == [2] * 20
    assert set(torch.cat([batch.cases for batch in batches]).tolist()) == {0, 1, 2}


@pytest.mark.slow
def test_number_of_processes_does_not_matter(phantom_store):
    alone = list(module_of(phantom_store).train_dataloader())
    helped = list(module_of(phantom_store, workers=1).train_dataloader())
    assert len(alone) == len(helped) == 3
    assert all(equal(*pair) for pair in zip(alone, helped, strict=True))


@pytest.mark.parametrize(("done", "accumulate"), [(2, 1), (1, 2)])
def test_resumed_training_goes_on_with_the_next_window(phantom_store, done, accumulate):
    whole = list(module_of(phantom_store, batches=6).train_dataloader())
    rest = list(module_of(phantom_store, batches=6, done=done, accumulate=accumulate).train_dataloader())
    assert len(rest) == 4
    assert all(equal(*pair) for pair in zip(whole[2:], rest, strict=True))


def test_ranks_share_the_windows_out(phantom_store):
    ranks = [list(module_of(phantom_store, rank=rank, ranks=2).train_dataloader()) for rank in (0, 1)]
    expected = [sampler_of(phantom_store).draw(number)[0] for number in range(12)]
    names = list(phantom_store.cases)
    for rank, batches in enumerate(ranks):
        assert [names[number] for batch in batches for number in batch.cases.tolist()] == expected[rank::2]


@pytest.mark.parametrize(
    ("ranks", "shares"), [(1, [[3, 4]]), (2, [[3], [4]]), (3, [[3, 4], [4], [3]]), (4, [[3], [4], [3], [4]])]
)
def test_watched_cases_are_shared_out_and_each_rank_has_one(phantom_store, ranks, shares):
    """With three ranks both cases count twice, which changes no Dice."""
    names = list(phantom_store.cases)
    found = [list(module_of(phantom_store, rank=rank, ranks=ranks).val_dataloader()) for rank in range(ranks)]
    assert found == [[names[number] for number in share] for share in shares]
