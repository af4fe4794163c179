"""The towers as ONNX, run by onnxruntime: they embed as the model does, with any adapter."""

from functools import partial

import onnxruntime
import pytest
import torch

from cma import AdapterConfig
from cma.families import FAMILIES
from explorer.tower import adapter_tensors, black_and_white, export
from tests import ROOT
from tests.conftest import build_clip, with_adapters

TEXTS = ["a cat", "two red birds on the boat", "the white dog in the green water"]


@pytest.fixture(scope="module")
def model(toy_processor):
    """A model with adapters of two sizes; its weights are exact in half precision."""
    clip = build_clip(text_layers=2)
    for weight in clip.parameters():
        weight.data = weight.half().float()
    model = with_adapters(clip, toy_processor)
    model.add_adapter("c", AdapterConfig(bottleneck_dim=3, shared_dim=0, init_std=0.3))
    model.set_adapter(None)
    return model


@pytest.fixture(scope="module", params=["text", "vision"])
def tower(request):
    return request.param


@pytest.fixture(scope="module")
def graph(model, tower):
    return export(model, model.adapters["a"], tower)


def embed(session, tensors, asked, strength):
    given = {"strength": torch.tensor(strength)} | tensors | asked
    return torch.from_numpy(
        session.run(None, {name: one.numpy() for name, one in given.items()})[0]
    )


@pytest.mark.slow
def test_one_graph_embeds_as_the_model_with_every_adapter_at_every_strength(model, graph, tower):
    assert str(ROOT).encode() not in graph  # nothing about this computer
    session = onnxruntime.InferenceSession(graph)
    if tower == "text":
        asked = [{"ids": model.tokenize([text])[0]} for text in TEXTS]
        encode = partial(model.encode_text, TEXTS)
    else:
        pixels = black_and_white(model)
        asked = [{"pixels": one[None]} for one in pixels]
        encode = partial(model.encode_images, pixels)
    plain = encode()
    for name in ("a", "b", "c"):
        tensors = adapter_tensors(model.adapters[name], tower)
        for strength in (0.0, 0.25, 1.0):
            with model.using(name, strength):
                expected = encode()
            assert strength == 0 or not torch.allclose(expected, plain, atol=1e-2)
            for question, one in zip(asked, expected, strict=True):
                found = embed(session, tensors, question, strength)[0]
                assert torch.cosine_similarity(found, one, dim=0) > 1 - 1e-6
                torch.testing.assert_close(found, one, rtol=1e-4, atol=1e-4)


def test_a_family_that_reads_padding_is_refused(model, monkeypatch):
    monkeypatch.setattr(model, "family", FAMILIES["siglip"])
    with pytest.raises(ValueError, match="SigLIP: its text tower needs padded texts"):
        export(model, model.adapters["a"], "text")
