"""200 epochs on a tiny set: memory stays as it is, whether pictures are kept or read again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import ROOT
from tests.toy_data import write_images

EPOCHS, SETTLED = 200, 50  # the first epochs fill what is allocated once
TRAIN = """
import json, os, re, sys
from pathlib import Path
import torch
import cma
from cma import AdapterConfig, RetrievalModel, TrainConfig
from cma.data import load
from tests.conftest import build_clip, build_processor
sys.modules["matplotlib"] = None
model = RetrievalModel(build_clip(2, 2), build_processor())
model.add_adapter("a", AdapterConfig(bottleneck_dim=4, shared_dim=8))
model.set_adapter("a")
found = []
def note(record):
    found.append(int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
data, runs, epochs, cache = sys.argv[1:]
settings = {"batch_size": 4, "epoch_unit": "items", "max_frames": 1, "cache": cache == "True"}
cma.train(model, load(data, "train"), TrainConfig(epochs=int(epochs), runs_dir=runs, **settings), note)
print(json.dumps(found))
"""


@pytest.mark.processes
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory of a process is read from /proc")
@pytest.mark.parametrize("cache", [False, True])
def test_memory_stays_flat_over_200_epochs(tmp_path, cache, record_property):
    """Each epoch has two steps, a validation and three checkpoints; its own history is a few kilobytes."""
    data = write_images(tmp_path / "data", {"train": 8, "val": 2, "test": 2})
    command = [sys.executable, "-c", TRAIN, data, tmp_path / "runs", str(EPOCHS), str(cache)]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    used = json.loads(done.stdout.splitlines()[-1])
    assert len(used) == EPOCHS
    slope = np.polyfit(np.arange(SETTLED, EPOCHS), used[SETTLED:], 1)[0]
    record_property("megabytes_an_epoch", round(slope, 4))
    said = f"{slope:.4f} MB an epoch: {used[SETTLED]:.1f} MB after {SETTLED}, {used[-1]:.1f} after {EPOCHS}"
    print(said)
    assert slope < 0.05, said
