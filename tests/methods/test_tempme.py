"""TempMe merges tokens that are alike, as slow loops say, and never looks at padding."""

import math

import pytest
import torch
from tempme import merged

from cma import RetrievalModel, TrainConfig
from cma.methods import attach
from cma.training import prepare
from cma.training.step import batch_gradient, recomputed
from tests.conftest import build_clip, one_line
from tests.methods.conftest import FRAMES, MASK, a_batch, build, largest
from tests.toy_families import build_backbone


def slowly(x, sizes, sources, count):
    """Merge one token after the other, of one clip."""
    at = [i for i, source in enumerate(sources) if source]
    others = [i for i, source in enumerate(sources) if not source]
    cosine = torch.nn.functional.cosine_similarity
    nearest = {i: max(others, key=lambda j, i=i: float(cosine(x[i], x[j], dim=0))) for i in at}
    by_likeness = sorted(at, key=lambda i: -float(cosine(x[i], x[nearest[i]], dim=0)))
    groups = {j: [j] for j in others}
    for i in by_likeness[:count]:
        groups[nearest[i]].append(i)
    kept = sorted(by_likeness[count:])
    tokens, counts = [x[i] for i in kept], [sizes[i] for i in kept]
    for group in groups.values():
        counts.append(sum(sizes[i] for i in group))
        tokens.append(sum(sizes[i] * x[i] for i in group) / counts[-1])
    return torch.stack(tokens), torch.stack(counts)


@pytest.mark.parametrize("count", [1, 3, 5, 9])
def test_tokens_are_merged_as_by_slow_loops(count):
    draw = torch.Generator().manual_seed(count)
    x, sizes = torch.randn(4, 9, 6, generator=draw), torch.randint(1, 5, (4, 9), generator=draw)
    sources = torch.arange(9) % 2 == 0
    found = merged(x, sizes.float(), sources, count)
    for clip in range(4):
        wanted = slowly(x[clip], sizes[clip].float(), sources, count)
        torch.testing.assert_close([one[clip] for one in found], list(wanted))
    torch.testing.assert_close(found[1].sum(1), sizes.float().sum(1))


def test_a_clip_becomes_one_whatever_else_is_in_the_batch_and_padding_says_nothing():
    model = build("TempMe", moved=True, frames=3)
    with torch.no_grad():
        whole = model.encode_videos(FRAMES, MASK)
        for clip, frames in enumerate(MASK.sum(1).tolist()):
            alone = model.encode_videos(FRAMES[clip : clip + 1, :frames])
            torch.testing.assert_close(alone, whole[clip : clip + 1, :frames])
            for frame in range(frames):  # all are the clip's
                torch.testing.assert_close(whole[clip, frame], whole[clip, 0])
        other = FRAMES.clone()
        other[:, 2] = 0
        changed = model.encode_videos(other, MASK)
    torch.testing.assert_close(changed[2, :2], whole[2, :2])
    assert not torch.allclose(changed[0, 0], whole[0, 0], atol=1e-4)


def test_more_frames_than_one_clip_holds_are_several_clips():
    model = build("TempMe", moved=True, frames=2)
    frames = torch.cat([FRAMES, FRAMES.flip(0)[:, :1]], 1)  # [V, 4]
    with torch.no_grad():
        whole = model.encode_videos(frames)
        halves = [model.encode_videos(frames[:, at : at + 2]) for at in (0, 2)]
    torch.testing.assert_close(whole, torch.cat(halves, 1))


def test_each_step_leaves_as_many_tokens_as_the_paper_says():
    model = RetrievalModel(build_clip(6, 2))
    method = attach(model, "TempMe", "m", frames=12, spatial=1)
    frames = torch.randn(2, 12, 3, 32, 32)
    with torch.no_grad():
        model.encode_videos(frames)
    patches = method.sizes[1].shape[1] - 1
    tokens = [tuple(method.sizes[layer].shape) for layer in range(1, 7)]
    wanted, left, clips = [(24, 1 + patches)], patches - 1, 24
    wanted.append((clips, 1 + left))
    for joined in (2, 2, 3):
        clips //= joined
        left *= joined
        for share in (0.7, 0.9):
            left = math.ceil(share * left)
        wanted.append((clips, 1 + left))
    wanted.append(wanted[-1])
    assert tokens == wanted and clips == 2
    for layer in range(3, 7):  # every token of all frames is counted
        assert method.sizes[layer].sum() == 24 * (1 + patches)


@pytest.mark.parametrize("method", ["ST-Adapter", "TempMe"])
def test_layers_that_are_computed_again_see_their_own_clips(method, monkeypatch):
    monkeypatch.setattr(RetrievalModel, "frames_at_once", 3)  # one clip at a time
    model, found = build(method, moved=True), []
    for again in (False, True):
        model.zero_grad()
        config = TrainConfig(checkpoint_activations=again)
        prepare(model, config)
        with recomputed(model, config):
            batch_gradient(model, a_batch(), config)
        found.append([p.grad.clone() for p in model.trainable_parameters()])
    assert largest(*found) <= 1e-5 * max(g.abs().max().item() for g in found[0])


def test_pictures_and_a_backbone_without_a_class_token_are_refused_in_one_line():
    with one_line(ValueError, "TempMe: cannot do pictures, use encode_videos: it merges"):
        build("TempMe").encode_images(FRAMES[:, 0])
    with one_line(ValueError, "TempMe: SigLIP has no class token"):
        attach(RetrievalModel(build_backbone("siglip")), "TempMe", "m")
