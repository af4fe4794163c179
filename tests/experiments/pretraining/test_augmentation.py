"""Views of drawings: opaque, seeded, never mirrored."""

import torch

from experiments.pretraining.augmentation import augment, recolour


def test_views_are_opaque_pictures_and_seeded():
    rgba = torch.rand(5, 4, 24, 24)
    views = augment(rgba, 16, torch.Generator().manual_seed(3))
    assert views.shape == (5, 3, 16, 16) and views.min() >= 0 and views.max() <= 1
    torch.testing.assert_close(
        views, augment(rgba, 16, torch.Generator().manual_seed(3)), atol=0, rtol=0
    )
    assert not torch.equal(views, augment(rgba, 16, torch.Generator().manual_seed(4)))


def test_nothing_is_mirrored():
    left = torch.zeros(64, 4, 40, 40)
    left[:, 3, :, :16] = 1  # a black bar on the left
    views = augment(left, 40, torch.Generator().manual_seed(0)).mean(1)
    assert (
        views[:, 10:30, 5:15].mean((1, 2)) < views[:, 10:30, 25:35].mean((1, 2))
    ).float().mean() > 0.9


def test_recolouring_keeps_the_shape():
    rgba = torch.rand(3, 4, 8, 8)
    coloured = recolour(rgba, torch.Generator().manual_seed(0))
    assert torch.equal(coloured[:, 3], rgba[:, 3])
    assert coloured[:, :3].flatten(2).std(-1).max() == 0
