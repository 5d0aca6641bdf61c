"""A network with random weights as a model folder, and exported."""

import pytest


@pytest.fixture(scope="session")
def random_folder(random_model, tmp_path_factory):
    """The network as a model folder."""
    folder = tmp_path_factory.mktemp("model") / "model"
    random_model.save(folder)
    return folder


@pytest.fixture(scope="session")
def exported_onnx(random_folder, tmp_path_factory):
    """The same, exported."""
    from inflate3d.export.export import export_model

    folder = tmp_path_factory.mktemp("exported") / "onnx"
    export_model(random_folder, folder)
    return folder
