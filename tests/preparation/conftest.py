import pytest

from inflate3d.preparation import drafting


@pytest.fixture
def read(monkeypatch):
    """Ids of the cases that are read."""
    ids, real = [], drafting.read_case

    def counting(dataset, case, **how):
        ids.append(case.id)
        return real(dataset, case, **how)

    monkeypatch.setattr(drafting, "read_case", counting)
    return ids
