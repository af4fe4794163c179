import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cma import ReadConfig
from cma import similarity as module
from cma.similarity import mean_pooled, text_conditioned


def direct(text, frames, mask, temperature):
    """The definition, with the pooled videos [T, V, D] in full, in float64."""
    text, frames = text.double(), frames.double()
    scores = torch.einsum("td,vfd->tvf", text, frames) / temperature
    weights = scores.masked_fill(~mask.bool(), -torch.inf).softmax(-1)
    pooled = torch.einsum("tvf,vfd->tvd", weights, frames)
    return torch.cosine_similarity(text[:, None], pooled, dim=-1, eps=0)


def direct_mean(text, frames, mask):
    text, frames, mask = text.double(), frames.double(), mask.double()
    pooled = (frames * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return torch.cosine_similarity(text[:, None], pooled[None], dim=-1, eps=0)


@st.composite
def batches(draw, smallest=2):
    """text [T, D], frames [V, F, D], and mask [V, F] with a frame of each item."""
    t, v, f = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(1, 5))
    d, scale = draw(st.integers(smallest, 9)), 10.0 ** draw(st.integers(-6, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    text = torch.randn(t, d, generator=generator) * scale
    frames = torch.randn(v, f, d, generator=generator) * scale
    mask = torch.rand(v, f, generator=generator) < draw(st.sampled_from([0.3, 0.7, 1.0]))
    mask[torch.arange(v), torch.randint(f, (v,), generator=generator)] = True
    dtype = draw(st.sampled_from([torch.bool, torch.int64, torch.float32, torch.bfloat16]))
    return text, frames, mask.to(dtype)


@given(batches(), st.sampled_from([0.5, 5.0, 100.0]), st.sampled_from([1, 7, 2**20]))
def test_both_equal_their_definitions(batch, temperature, block):
    text, frames, mask = batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)  # any cutting into blocks of items
        got = text_conditioned(text, frames, mask, temperature)
    assert got.dtype == torch.float32
    # The softmax magnifies the rounding of its logits, in either form: allow for it.
    scores = torch.einsum("td,vfd->tvf", text, frames).abs().max().item() / temperature
    expected = direct(text, frames, mask, temperature)
    torch.testing.assert_close(got.double(), expected, atol=2e-5 + 1e-6 * min(scores, 100), rtol=0)
    torch.testing.assert_close(mean_pooled(*batch).double(), direct_mean(*batch), atol=2e-5, rtol=0)


@given(batches(), st.sampled_from([mean_pooled, text_conditioned]))
def test_padding_never_contributes(batch, similarity):
    text, frames, mask = batch
    garbage = torch.where(mask.bool()[..., None], frames, torch.full_like(frames, 1e30))
    assert torch.equal(similarity(text, garbage, mask), similarity(text, frames, mask))
    nan = torch.where(mask.bool()[..., None], frames, torch.nan)
    assert torch.equal(similarity(text, nan, mask), similarity(text, frames, mask))


def test_gradients_equal_those_of_the_definition():
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(4, 8, generator=generator)
    frames = torch.randn(5, 3, 8, generator=generator)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [0, 1, 1], [1, 1, 1]])
    upstream = torch.randn(4, 5, generator=generator)
    gradients = []
    for similarity in (lambda *x: text_conditioned(*x, 5.0), lambda *x: direct(*x, 5.0)):
        inputs = [text.clone().requires_grad_(), frames.clone().requires_grad_()]
        (similarity(*inputs, mask) * upstream).sum().backward()
        gradients.append([x.grad for x in inputs])
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-5)
    assert not gradients[0][1][mask == 0].any()


def test_frames_that_cancel_or_vanish_give_no_nan():
    text = torch.tensor([[1.0, 0.0], [0.0, 0.0]], requires_grad=True)
    frames = torch.tensor([[[0.0, 1.0], [0.0, -1.0]], [[0.0, 0.0], [0.0, 0.0]]], requires_grad=True)
    for similarity in (mean_pooled, text_conditioned):
        got = similarity(text, frames)
        assert torch.equal(got, torch.zeros(2, 2))
        assert all(g.isfinite().all() for g in torch.autograd.grad(got.sum(), (text, frames)))


@pytest.mark.parametrize("rest", [1e-3, 1e-5, 1e-7])
def test_cancelling_frames_keep_their_digits_and_change_no_other_item(rest):
    """|pooled| is `rest` of the frames: a Gram form, also in float64, is off by 0.2 and more."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(20, 1, 16, generator=generator)
    frames = torch.cat([v, -v + rest * torch.randn(20, 1, 16, generator=generator)], dim=1)
    text = 1e-3 * rest * torch.randn(10, 16, generator=generator)
    usual = torch.randn(30, 2, 16, generator=generator)
    mask = torch.ones(50, 2)
    inputs = [text.requires_grad_(), torch.cat([frames, usual]).requires_grad_()]
    got = text_conditioned(*inputs, mask)
    expected = direct(*inputs, mask, 5.0)
    torch.testing.assert_close(got.double(), expected, atol=1e-5, rtol=0)
    ours, theirs = (torch.autograd.grad(found.sum(), inputs) for found in (got, expected))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CANCELLED", 0.0)
        assert torch.equal(text_conditioned(*inputs, mask)[:, 20:], got[:, 20:])


def test_one_frame_is_the_plain_cosine_bit_for_bit():
    text, frames = torch.randn(5, 8), torch.randn(7, 1, 8)
    found = module.compare(text, frames, None, ReadConfig())
    assert torch.equal(found, mean_pooled(text, frames))


@pytest.mark.parametrize("similarity", [mean_pooled, text_conditioned])
def test_arithmetic_is_float32_also_under_autocast_and_on_half_inputs(similarity):
    generator = torch.Generator().manual_seed(0)
    text, frames = (
        torch.randn(3, 64, generator=generator),
        torch.randn(4, 2, 64, generator=generator),
    )
    expected = similarity(text, frames, torch.ones(4, 2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(similarity(text, frames, torch.ones(4, 2)), expected)
    half = similarity(text.bfloat16(), frames.bfloat16(), torch.ones(4, 2))
    assert torch.equal(
        half, similarity(text.bfloat16().float(), frames.bfloat16().float(), torch.ones(4, 2))
    )


@pytest.mark.parametrize("similarity", [mean_pooled, text_conditioned])
def test_bad_input_is_named(similarity):
    text, frames, mask = torch.randn(2, 4), torch.randn(3, 2, 4), torch.ones(3, 2)
    mask[1] = 0
    for wrong, said in (
        ((text, frames, mask), r"items \[1\] \(1 of 3\).*every frame is masked"),
        ((text, frames, torch.ones(2, 3)), r"mask must be \[3, 2\]"),
        ((text, torch.randn(3, 2, 5), mask), r"frames \[V, F, D\], not \[2, 4\], \[3, 2, 5\]"),
        ((text[0], frames, mask), r"text \[T, D\]"),
    ):
        with pytest.raises(ValueError, match=said):
            similarity(*wrong)
