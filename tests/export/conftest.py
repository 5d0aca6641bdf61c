"""A network with random weights that predicts every class somewhere, in a model folder."""

import pytest
import torch

from inflate3d.models.encoders import create_encoder
from inflate3d.models.segmenter import create_model


@pytest.fixture(scope="session")
def random_model(phantom_store):
    """Five classes whose label values have gaps, windows of three slices."""
    torch.manual_seed(0)
    encoder = create_encoder("resnet10t", depth=3, image_size=64, weights="none")
    model = create_model(encoder=encoder, num_classes=5, decoder_channels=8, detail_channels=4)
    torch.nn.init.zeros_(model.classifier.bias)  # type: ignore[arg-type]
    torch.nn.init.zeros_(model.correct.bias)  # type: ignore[arg-type]
    torch.nn.init.normal_(model.correct.weight, std=3.0)
    classes = dict(zip((0, 3, 4, 90, 700), phantom_store.plan.class_names, strict=True))
    model.plan = phantom_store.plan.model_copy(update={"image_size": (64, 64), "classes": classes})
    return model.eval()


@pytest.fixture(scope="session")
def random_folder(random_model, tmp_path_factory):
    """The same as a model folder."""
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
