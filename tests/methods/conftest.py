"""What the tests of the methods share: one method on a toy CLIP, and what a model gives for fixed
inputs.
"""

import torch

from cma import RetrievalModel
from cma.methods import attach
from cma.training import Batch
from tests.conftest import EOS, SOS, build_clip, same

FRAMES = torch.randn(4, 3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
MASK = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 1, 0], [1, 0, 0]])


def token_ids(length: int = 9) -> torch.Tensor:
    """Four captions of random words; the last is shorter and padded with 0."""
    ids = torch.randint(1, 400, (4, length), generator=torch.Generator().manual_seed(2))
    ids[:, 0], ids[:, -1] = SOS, EOS
    ids[3, -3:] = torch.tensor([EOS, 0, 0])
    return ids


def a_batch() -> Batch:
    return Batch(token_ids(), FRAMES, MASK, torch.arange(4))


def build(
    method: str, moved: bool = False, dtype=torch.float32, clip=None, **options
) -> RetrievalModel:
    """A toy model with `method` as "m", acting; `moved`: its weights are as if they had been
    trained.
    """
    model = RetrievalModel((clip or build_clip()).to(dtype))
    attach(model, method, "m", **options).to(dtype)
    if moved:
        move(model.adapters["m"])
    return model


def move(method: torch.nn.Module) -> None:
    """Add some noise to every tensor of a method."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


def embed(model: RetrievalModel) -> tuple[torch.Tensor, torch.Tensor]:
    """The embeddings of the texts and of the frames that are no padding."""
    with torch.no_grad():
        return model.encode_text(token_ids()), model.encode_videos(FRAMES, MASK)[MASK.bool()]


def hooks(model: RetrievalModel) -> int:
    """How many hooks stand on CLIP."""
    modules = model.clip.modules()
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)


def assert_bare(model: RetrievalModel, before: dict[str, torch.Tensor]) -> None:
    """No hook stands on CLIP, and its tensors are `before`, bit for bit and in their order."""
    after = model.clip.state_dict()
    assert hooks(model) == 0
    assert list(after) == list(before)
    assert same(after.values(), before.values())


def largest(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    """The largest absolute difference."""
    pairs = zip(ours, theirs, strict=True)
    return max((a.double() - b.double()).abs().max().item() for a, b in pairs if a.numel())
