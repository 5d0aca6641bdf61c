"""The adaptive schedule: fewer slices for the same label map."""

import numpy as np
import pytest
import torch

from inflate3d.errors import ConfigError
from inflate3d.inference.predictor import Predictor
from inflate3d.inference.schedule import adaptive_logits
from inflate3d.training.build import thinnest_structure
from inflate3d.volume import Volume


class Scan:
    """Slices of 2 x 2 pixels, some of which hold a structure; remembers which were scored."""

    def __init__(self, holding, batch=3):
        self.holding, self.batch, self.scored = np.asarray(holding, bool), batch, []

    def logits(self, indices):
        """Of one slice each: background, and a class in one pixel."""
        random = torch.Generator().manual_seed(7)
        noise = torch.rand(len(self.holding), 1, 2, 2, generator=random)
        structure = torch.full((len(self.holding), 1, 2, 2), -1.0)
        structure[torch.from_numpy(self.holding), 0, 0, 1] = 2.0
        return torch.cat([noise, structure], 1)[torch.from_numpy(indices)]

    def score(self, indices):
        self.scored += indices.tolist()
        for start in range(0, len(indices), self.batch):
            yield [self.logits(indices[start : start + self.batch])]


def full(scan):
    return scan.logits(np.arange(len(scan.holding)))


def are_background(logits):
    return bool((logits[:, :1] >= logits).all())


def adaptive(scan, step):
    slices = [logits for (logits,) in adaptive_logits(scan.score, len(scan.holding), step, are_background)]
    assert len(slices) == len(scan.holding)
    return torch.cat(slices)


def stretch(length, *pairs):
    holding = np.zeros(length, bool)
    for first, last in pairs:
        holding[first : last + 1] = True
    return holding


def test_between_two_empty_slices_none_is_predicted():
    scan = Scan(stretch(41, (17, 22)))
    logits = adaptive(scan, 5)
    assert sorted(scan.scored) == sorted({*range(0, 41, 5), *range(16, 20), *range(21, 25)})
    assert torch.equal(logits.argmax(1), full(scan).argmax(1))
    assert torch.equal(logits[15:26], full(scan)[15:26])


@pytest.mark.parametrize("length", [1, 2, 3, 5, 6, 30, 31, 34])
@pytest.mark.parametrize("step", [1, 2, 3, 7])
def test_a_scan_full_of_structure_is_predicted_once(length, step):
    scan = Scan(np.ones(length))
    assert torch.equal(adaptive(scan, step), full(scan))
    assert sorted(scan.scored) == list(range(length))


@pytest.mark.parametrize("seed", range(20))
def test_structures_as_thick_as_a_step_are_found_wherever_they_lie(seed):
    random, step = np.random.default_rng(seed), 4
    lengths = random.integers(step, 12, 8)
    scan = Scan(np.repeat(np.arange(8) % 2 == 1, lengths), batch=int(random.integers(1, 6)))
    assert torch.equal(adaptive(scan, step).argmax(1), full(scan).argmax(1))


def test_every_kind_of_logits_has_to_be_background():
    """Of several networks each has a say."""
    holding = stretch(9, (4, 4))
    scan, other = Scan(np.zeros(9)), Scan(holding)
    other.holding[:] = stretch(9, (0, 8))

    def both(indices):
        yield from ([*first, *second] for first, second in zip(scan.score(indices), other.score(indices), strict=True))

    slices = list(adaptive_logits(both, 9, 4, are_background))
    assert len(slices) == 9
    assert sorted(scan.scored) == list(range(9))


@pytest.fixture(scope="module")
def box():
    """A bright box in the middle third of a dark scan."""
    array = np.full((1, 24, 20, 48), -200, np.int16)
    array[:, 6:18, 5:15, 18:31] = 400
    return Volume(array, np.diag([1.0, 1.0, 2.0, 1.0]))


def prefer_background(model):
    """Dark windows are background, whatever the weights."""
    weights = model.weights.clone()
    forward = type(model).forward

    def biased(windows):
        logits = forward(model, windows)
        logits[:, 0] += 0.1
        return logits

    model.forward = biased
    assert torch.equal(weights, model.weights)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"flips": True}, {"batch_size": 2}])
def test_label_maps_are_those_of_the_full_schedule(sums, box, options):
    model = prefer_background(sums(3, thinnest=(13.0, 5.0, 5.0)))
    seen = []
    forward = model.forward
    model.forward = lambda windows: seen.append(len(windows)) or forward(windows)
    labels, counts = [], []
    for schedule in ("full", "adaptive"):
        seen.clear()
        predictor = Predictor(model, device="cpu", schedule=schedule, **options)
        labels.append(predictor.predict(box, depth_filter=0.0).labels)
        counts.append(sum(seen))
    assert np.array_equal(*labels)
    assert len(np.unique(labels[0])) > 1
    assert counts[1] < 0.75 * counts[0]


def test_what_the_adaptive_schedule_can_not_do(sums, box):
    with pytest.raises(ConfigError, match="thickness of structures"):
        Predictor(sums(), device="cpu", schedule="adaptive")
    with pytest.raises(ConfigError, match="--slice-step"):
        Predictor(sums(3, thinnest=(9.0, 9.0, 9.0)), device="cpu", schedule="adaptive", slice_step=2)


def test_the_thinnest_structure_of_the_training_cases(phantom_store):
    cases = list(phantom_store.cases)
    along = []
    for axis in range(3):
        runs = []
        for case in cases:
            labels = phantom_store.labels(case)
            held = (labels > 0).any(tuple(other for other in range(3) if other != axis))
            edges = np.flatnonzero(np.diff(np.concatenate([[0], held.astype(int), [0]])))
            runs += [*(edges[1::2] - edges[::2]) * phantom_store.cases[case].spacing[axis]]
        along.append(min(runs))
    assert thinnest_structure(phantom_store, cases) == pytest.approx(along)
    assert thinnest_structure(phantom_store, []) is None
