"""200 epochs on a tiny set: memory stays as it is, whether pictures are kept or read again."""

import numpy as np
import psutil
import pytest

import cma
from cma.data import load
from tests.toy_data import write_images

EPOCHS, SETTLED = 200, 50  # the first epochs fill what is allocated once


@pytest.mark.night
@pytest.mark.parametrize("cache", [False, True])
def test_memory_stays_flat_over_200_epochs(tmp_path, config, make_model, cache):
    """Each epoch has two steps, a validation and three checkpoints; its own history is a few
    kilobytes.
    """
    used, process = [], psutil.Process()
    data = write_images(tmp_path / "data", {"train": 8, "val": 2, "test": 2})
    config = config.merge(
        {"batch_size": 4, "epoch_unit": "items", "epochs": EPOCHS, "cache": cache}
    )
    cma.train(
        make_model(),
        load(data, "train"),
        config,
        lambda _: used.append(process.memory_info().rss / 2**20),
    )
    assert len(used) == EPOCHS
    slope = np.polyfit(np.arange(SETTLED, EPOCHS), used[SETTLED:], 1)[0]
    assert slope < 0.05, f"{slope:.4f} MB an epoch: from {used[SETTLED]:.1f} MB to {used[-1]:.1f}"
