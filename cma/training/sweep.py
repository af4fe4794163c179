"""A sweep over learning rates, judged on validation alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ..config import WHERE, TrainConfig
from ..data import RetrievalDataset
from ..files import write_whole
from ..model import RetrievalModel
from .loop import train


def sweep_rates(
    make_model: Callable[[], RetrievalModel],
    dataset: RetrievalDataset,
    config: TrainConfig,
    rates: Sequence[float],
    path: Path | str,
) -> list[dict]:
    """Train once per learning rate and write the validation recalls to the JSON file `path`.

    `make_model` returns a model with a fresh adapter active, the same each time. The test split is not read.
    Returns what is written under `rates`: the rates in the order given, each with the epoch that was kept and
    its validation recalls (%).
    """
    results = []
    for rate in rates:
        one = replace(config, lr=rate, name=f"{config.name}-lr{rate:g}", select_on="val", report_on="val")
        record = train(make_model(), dataset, one)
        found = {"lr": rate} | {key: record.metrics[key] for key in ("split", "texts", "items")}
        found["epoch"] = record.selected_epoch
        found |= {key: record.metrics[key] for key in ("text_to_visual", "visual_to_text")}
        results.append(found | {"seconds": record.seconds})
        settings = {k: v for k, v in record.config.items() if k not in ("lr", "name", *WHERE)}
        content = {"dataset": dataset.name, "config": settings, "adapter": record.adapter, "rates": results}
        write_whole(path, json.dumps(content, indent=1) + "\n")
    return results
