"""Reads batches with two workers, prints their process ids, and takes no more: METHOD FOLDER."""

import json
import multiprocessing
import sys
import time

import torch

from cma.data import load
from cma.training.reading import load_media


def large(dataset: object, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """More than fits into a pipe."""
    return torch.zeros(1, 16, 3, 224, 224, dtype=torch.uint8), torch.ones(1, 16)


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    read = load_media(load(sys.argv[2], "train"), large, [[0]] * 100, workers=2)
    next(read)
    print(json.dumps([child.pid for child in multiprocessing.active_children()]), flush=True)
    time.sleep(600)
