"""The paper's authors' own numbers, reached through our code (see parity_model)."""

import pytest
import torch

from cma.checkpoints import OFFICIAL
from cma.losses import symmetric_cross_entropy
from cma.similarity import mean_pooled, text_conditioned
from tests.parity_model import largest_difference, numbers, parity_model

SIMILARITIES = {"qscore": text_conditioned, "meanp": mean_pooled}


@pytest.fixture
def model():
    return parity_model()


@pytest.fixture(scope="module")
def inputs():
    return numbers("inputs")


@pytest.fixture(scope="module")
def theirs():
    return numbers("outputs")


def logits(model, inputs, similarity):
    text = model.encode_text(inputs["input_ids"])
    frames = model.encode_videos(inputs["video"], inputs["video_mask"])
    return model.logit_scale * similarity(text, frames, inputs["video_mask"])


def test_features(model, inputs, theirs):
    clip, video, ids = model.clip, inputs["video"], inputs["input_ids"]
    tokens = clip.text_model(input_ids=ids).last_hidden_state
    patches = clip.vision_model(pixel_values=video.flatten(0, 1)).last_hidden_state
    for ours, name in (
        (model.encode_videos(video, inputs["video_mask"]).flatten(0, 1), "encode_image"),
        (model.encode_images(video.flatten(0, 1)), "encode_image"),
        (model.encode_text(ids), "encode_text"),
        (clip.text_projection(tokens), "encode_text_hidden"),
        (clip.visual_projection(clip.vision_model.post_layernorm(patches)), "encode_image_hidden"),
    ):
        assert largest_difference(ours, theirs[name]) <= 2e-5, name


@pytest.mark.parametrize("name", SIMILARITIES)
def test_similarity_loss_and_gradients(model, inputs, theirs, name):
    ours = logits(model, inputs, SIMILARITIES[name])
    assert largest_difference(ours, theirs[f"{name}.sim"]) <= 2e-5
    loss = symmetric_cross_entropy(ours)
    assert largest_difference(loss, theirs[f"{name}.loss"]) <= 2e-6
    loss.backward()
    parameters = dict(model.adapters["official"].named_parameters())
    assert len(parameters) == 10
    for key, parameter in parameters.items():
        assert largest_difference(parameter.grad, theirs[f"{name}.grad.{OFFICIAL[key]}"]) <= 5e-6, (
            key
        )


def test_the_adapter_matters_to_these_numbers(model, inputs, theirs):
    """Without it, or with the shared part in front of the own one, they are missed by far."""
    model.set_adapter(None)
    assert largest_difference(model.encode_text(inputs["input_ids"]), theirs["encode_text"]) > 0.1
    model.set_adapter("official")
    text = model.adapters["official"].text
    with torch.no_grad():
        text.up_weight.copy_(text.up_weight.roll(16, 1))
    assert largest_difference(model.encode_text(inputs["input_ids"]), theirs["encode_text"]) > 0.1
