"""Export a tower of a CLIP as an ONNX graph that takes a sentence or a picture, and an adapter.

One graph serves CLIP and all cross-modal adapters of one activation, at any strength. Letters in
shapes: L tokens, S sites (two a layer), r the adapter's bottleneck, W width of the tower, D width
of the joint space.
"""

from functools import partial
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from cma.adapter import ACTIVATIONS, CrossModalAdapters
from cma.media import to_pixels
from cma.model import RetrievalModel
from cma.patching import parts


class AdaptedTower(nn.Module):
    """Embeds token ids or pixels as `model` would with the adapter whose tensors it receives.

    `tower` is "vision" or "text".
    """

    def __init__(self, model: RetrievalModel, tower: str, activation: str) -> None:
        super().__init__()
        self.clip = model.clip
        self.family = model.family
        self.encode = self.family.encode_text if tower == "text" else self.family.encode_pixels
        self.activation = ACTIVATIONS[activation]
        self.handles = []
        for place, name in enumerate(("after_attention", "after_mlp")):
            for found, depth, sublayer in parts(model.clip, name):
                if found == tower:
                    hook = partial(self.add, 2 * depth + place)
                    self.handles.append(sublayer.register_forward_hook(hook))
        self.eval()

    def add(self, site: int, sublayer: nn.Module, inputs: tuple, z: Tensor) -> Tensor:
        """Return z + strength · up(act(down(z))) of one site (the paper's Fig. 2)."""
        strength, down_weight, down_bias, up_weight, up_bias = self.given
        h = self.activation(F.linear(z, down_weight[site], down_bias[site]))
        return z + strength * F.linear(h, up_weight[site], up_bias[site])

    def forward(self, asked: Tensor, *given: Tensor) -> Tensor:
        """Return the embedding [1, D] that an index compares, of ids [1, L] or pixels [1, 3, H, W].

        `given`: the strength [], and the tensors of `adapter_tensors`, in their order.
        """
        self.given = given
        return self.family.comparable(self.encode(self.clip, asked))


def adapter_tensors(adapter: CrossModalAdapters, tower: str) -> dict[str, Tensor]:
    """Return an adapter's tensors for a tower; own and shared rows of `up` are joined.

    They are down_weight [S, r, W], down_bias [S, r], up_weight [S, W, r] and up_bias [S, W].
    """
    own = getattr(adapter, tower)
    sites = [2 * place + part for place in adapter.slices[tower] for part in (0, 1)]
    return {
        "down_weight": own.down_weight.data,
        "down_bias": own.down_bias.data,
        "up_weight": torch.cat([own.up_weight, adapter.shared_weight[sites]], 1).data,
        "up_bias": torch.cat([own.up_bias, adapter.shared_bias[sites]], 1).data,
    }


def black_and_white(model: RetrievalModel) -> Tensor:
    """Return a black and a white picture as the model's input [2, 3, H, W]."""
    pictures = [Image.new("RGB", (64, 64), colour) for colour in ("black", "white")]
    return to_pixels(pictures, model.of_processor("image_processor"))


def export(model: RetrievalModel, adapter: CrossModalAdapters, tower: str) -> bytes:
    """Return a tower's graph as an ONNX file's bytes, for all adapters with `adapter`'s activation.

    Its weights are in half precision, and are cast to single precision for the arithmetic. Its
    inputs are "ids" or "pixels", "strength" and the tensors of `adapter_tensors`.

    Raises ValueError for a family that needs padded texts: a page gives one unpadded sentence.
    """
    if model.family.full:
        message = "its text tower needs padded texts; a page without a server needs one like CLIP's"
        raise ValueError(f"{model.family.name}: {message}")
    tensors = adapter_tensors(adapter, tower)
    middle = torch.export.Dim("bottleneck")
    if tower == "text":
        names = ["ids", "strength", *tensors]
        asked = model.tokenize(["some words"])[0]
        places = model.clip.config.text_config.max_position_embeddings
        lengths = {1: torch.export.Dim("tokens", max=places)}
    else:
        names = ["pixels", "strength", *tensors]
        asked = black_and_white(model)[:1]
        lengths = None
    free = lengths, (None, {1: middle}, {1: middle}, {2: middle}, None)
    with model.using(None):
        adapted = AdaptedTower(model, tower, adapter.config.activation)
        given = asked, torch.tensor(1.0), *tensors.values()
        try:
            program: Any = torch.onnx.export(
                adapted, given, dynamo=True, verbose=False, input_names=names, dynamic_shapes=free
            )
        finally:
            for handle in adapted.handles:
                handle.remove()
    return halved(program.model_proto).SerializeToString()


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store the matrices of a graph in half precision, each with a cast to single precision."""
    graph = model.graph
    for node in graph.node:
        node.ClearField("metadata_props")
    for one in [*graph.initializer]:
        if one.data_type == TensorProto.FLOAT and len(one.dims) > 1:
            values = numpy_helper.to_array(one).astype("float16")
            half = numpy_helper.from_array(values, f"{one.name}.half")
            cast = helper.make_node("Cast", [half.name], [one.name], to=TensorProto.FLOAT)
            graph.initializer.remove(one)
            graph.initializer.append(half)
            graph.node.insert(0, cast)
    return model
