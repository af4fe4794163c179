"""Which scorers `cma.metrics.audit` calls honest, and which question gives away those that leak."""

import pytest
import torch
from torch.nn import functional as F

from cma.metrics import Audit, audit
from cma.similarity import mean_pooled, text_conditioned

BANK, *PAIRS = (
    torch.randn(size, generator=torch.Generator().manual_seed(1))
    for size in ((50, 16), (12, 16), (12, 3, 16))
)


@pytest.fixture(params=[(12, 12), (13, 13), (24, 12), (7, 30)], ids=str)
def some(request):
    """Texts [T, D] and frames [V, F, D]; the first texts resemble the items at their places."""
    generator = torch.Generator().manual_seed(0)
    count, items = request.param
    frames = torch.randn(items, 3, 16, generator=generator)
    texts = torch.randn(count, 16, generator=generator)
    both = min(count, items)
    texts[:both] += frames[:both, 0]
    return texts, frames


def cosine(texts, frames):
    return F.normalize(texts, dim=-1) @ F.normalize(frames[:, 0], dim=-1).T


def dual_softmax(texts, frames):
    similarity = cosine(texts, frames)
    return similarity * (20 * similarity).softmax(0)


def normalised_by_a_fixed_bank(texts, frames):
    """QB-Norm as it is meant: its queries are not those of the batch."""
    return cosine(texts, frames) - (20 * cosine(BANK, frames)).logsumexp(0) / 20


def centred(texts, frames):
    return F.normalize(texts - texts.mean(0), dim=-1) @ F.normalize(frames[:, 0], dim=-1).T


def pooled_by_place(texts, frames):
    """Each item is pooled by the text at its place; if there is none, by the mean."""
    own = torch.zeros(len(frames), texts.shape[1])
    own[: len(texts)] = texts[: len(frames)]
    weights = torch.einsum("vfd,vd->vf", frames, own).softmax(1)
    return mean_pooled(texts, (weights[:, None] @ frames))


def in_order(texts, frames):
    """The later an item comes, the lower its score."""
    return cosine(texts, frames) - 0.01 * torch.arange(len(frames))


def penalised(texts, frames):
    """Other numbers of texts and items have other scores."""
    return cosine(texts, frames) + 0.5 * (len(texts) == len(frames))


@pytest.mark.parametrize(
    "score", [mean_pooled, text_conditioned, cosine, normalised_by_a_fixed_bank]
)
def test_a_score_of_each_pair_alone_is_honest(score, some):
    found = audit(score, *some)
    assert found.honest and found == Audit(0.0, 0.0, 0.0)
    assert [line.rpartition("? ")[2] for line in str(found).splitlines()] == ["no"] * 3
    assert audit(lambda *pair: 100 * score(*pair), *some).honest


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_rounding_is_no_change(some, dtype):
    texts, frames = (values.to(dtype) for values in some)
    assert audit(lambda texts, frames: cosine(texts, frames) / 4 + 0.5, texts, frames).honest


@pytest.mark.parametrize(
    "score, changes",
    [
        (dual_softmax, {"batch", "unequal"}),
        (centred, {"batch", "unequal"}),
        (pooled_by_place, {"order", "unequal"}),
    ],
)
def test_a_score_that_sees_other_pairs_is_found(score, changes, some):
    found = audit(score, *some)
    assert not found.honest and not found.failures
    seen = {name for name in ("batch", "order", "unequal") if getattr(found, name)}
    equal = len(some[0]) == len(some[1])  # else each text's place is that of no item, or another
    assert seen == changes if equal else changes <= seen
    assert str(found).count("yes, by up to ") == len(seen)


def test_a_score_by_place_or_number_is_found(some):
    assert audit(in_order, *some).order > 0
    assert audit(penalised, *some).unequal > 0


def test_raw_texts_and_lists_are_scored():
    """A bag of words, as a list of lists."""
    texts = ["a red fox", "two owls", "an ant on snow", "a blue egg"]

    def shared(texts, items):
        return [[len({*text.split()} & {*item.split()}) for item in items] for text in texts]

    assert audit(shared, texts, (*texts, "a fox and an owl")).honest


@pytest.mark.parametrize(
    "score, said",
    [
        (lambda t, v: (t @ v[:, 0].T).T[:3], r"items: expected the shape \[6, 5\], not \[3, 6\]"),
        (lambda t, v: (t @ v[:, 0].T).log(), r"items: \[\d, \d\] is nan, which is no score"),
        (lambda t, v: None, "score of 6 texts and 5 items fails: "),
        (lambda t, v: 1 / 0, "fails: ZeroDivisionError: division by zero$"),
        (lambda t, v: torch.rand(len(t), len(v)), "other values for the same texts and items; "),
    ],
)
def test_a_score_that_is_none_is_refused_in_one_line(score, said):
    with pytest.raises(ValueError, match=said) as caught:
        audit(score, torch.randn(6, 4), torch.randn(5, 2, 4))
    assert "\n" not in str(caught.value)


def test_too_few_are_refused():
    with pytest.raises(ValueError, match="^expected at least 4 texts and 4 items, not 6 and 3$"):
        audit(cosine, torch.randn(6, 4), torch.randn(3, 2, 4))
