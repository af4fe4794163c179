from functools import partial

import pytest
import torch

from cma import RetrievalModel, methods
from explorer.index import MediaIndex, embed
from tests.conftest import build_clip
from tests.toy_index import drawn
from tests.toy_media import write_picture


@pytest.fixture
def read(monkeypatch):
    """The names of the files whose pixels are read."""
    names, really = [], embed.read_pixels
    monkeypatch.setattr(
        embed, "read_pixels", lambda file, *rest: names.append(file.media) or really(file, *rest)
    )
    return names


@pytest.fixture
def pictures(tmp_path):
    """A folder of six pictures."""
    for i in range(6):
        write_picture(tmp_path / "media" / f"p{i}.png", i * 7 + 1)
    return tmp_path / "media"


@pytest.fixture
def rebuild(model, pictures, tmp_path):
    """Builds the index of `pictures` in a folder, or brings it up to date."""
    return partial(MediaIndex.build, model, pictures, folder=tmp_path / "index")


@pytest.fixture
def asked(monkeypatch):
    """What the queries "0" to "39" are embedded as [40, D]."""
    texts = drawn(40, 1)[1]
    monkeypatch.setattr(MediaIndex, "_encode", lambda _, numbers: texts[list(map(int, numbers))])
    return texts


@pytest.fixture
def across(toy_processor):
    """A model whose method looks at all frames of a clip at once, and changes what it sees."""
    model = RetrievalModel(build_clip(), toy_processor)
    methods.attach(model, "ST-Adapter", "across")
    for parameter in model.trainable_parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model
