import pytest

from inflate3d.preparation import prepare as preparation


@pytest.fixture
def read(monkeypatch):
    """Ids of the cases that are read."""
    ids, real = [], preparation.read_case

    def counting(dataset, case, **how):
        ids.append(case.id)
        return real(dataset, case, **how)

    monkeypatch.setattr(preparation, "read_case", counting)
    return ids
