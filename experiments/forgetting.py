"""Measure what training costs on the drawings of pre-training: recall before and after.

We test each adapter that a study has kept on the drawings, in float32 and without training, and
compare its R@1 with zero-shot on the same captions: the mean difference over the seeds, with its
paired interval. We do so for the reported runs, and, at the `gentlest` rate, for the runs that
chose the rate.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from cma import RetrievalModel, data, methods
from cma.files import write_whole
from cma.recipes import recipe

from . import rows
from .drawings import NAME, build_drawings
from .options import DATA, RESULTS
from .rows import MethodRow
from .study import ZERO_SHOT, Study, backbone_of, why_not
from .world import kept_in

FILE = "forgetting.json"  # in the folder of results


def gentlest(row: MethodRow) -> float:
    """Return the smallest rate whose mean mR on validation is at most one point below the best.

    Only runs of full length count. A given rate is returned as it is.
    """
    means = defaultdict(float)
    for entry in row.rates:
        if entry["epochs"] == row.budget["epochs"]:
            means[entry["lr"]] += (entry["mR"] or 0.0) / len(row.budget["rate_seeds"])
    good = (rate for rate, mean in means.items() if mean >= max(means.values()) - 1)
    return min(good, default=row.lr)


def tested(study: Study, row: MethodRow, runs: dict[str, str]) -> MethodRow:
    """Test adapters on the dataset of `study`; `runs`: {seed: name in runs_dir}, "": zero-shot.

    Raises ValueError for a row of another backbone.
    """
    row.check_backbone(study.clip)
    result = MethodRow(study.folder.name, row.method, {})
    for seed, name in runs.items():
        model = RetrievalModel(study.clip, study.processor)
        if name:
            model.load_adapter(Path(study.config.runs_dir) / name, "method")
        study.test(result, model, seed, None)
        model.set_adapter(None)
    return result


def compared(after: MethodRow, before: MethodRow) -> dict:
    """Return {"R@1": {direction: [%, low, high]}, "difference": {direction: [points, low, high,
    p]}}.
    """
    values = {
        "R@1": lambda way: rows.recall(after, way),
        "difference": lambda way: rows.difference(after, before, way),
    }
    return {
        name: {way: np.round(value(way), 4).tolist() for way in rows.DIRECTIONS}
        for name, value in values.items()
    }


OPTIONS = {
    "--backbone": "mini",
    "--data": DATA,
    "--results": RESULTS,
    "--runs": "runs/methods",
    "--workers": 2,
}


def run(options: argparse.Namespace) -> None:
    """Test a study's adapters on the drawings of pre-training; half a minute for each row.

    The first time, it downloads 104 MB and builds the drawings. It reads the rows in methods/ of
    the folder of results, and writes forgetting.json there. A row is tested if its adapters are in
    --runs, and only once for the same runs.
    """
    place = options.results / "methods"
    studied = rows.read_rows(place)
    if not studied:
        raise ValueError(f"{place}: no rows; `python -m experiments study` makes them")
    build_drawings(options.data, options.workers)
    folder, file = options.data / NAME, options.results / FILE
    config = recipe("mini-flickr30k").train_config().merge({"runs_dir": options.runs})
    study = Study(*backbone_of(options.backbone), folder, config, rows.Budget(), place)
    drawings = data.load(folder, "test")
    before = tested(study, MethodRow(drawings.name, ZERO_SHOT, {}), {"0": ""})
    content = {"rows": {}} | kept_in(options.results, FILE)
    content |= {"dataset": drawings.name, "items": len(drawings), "texts": len(drawings.captions)}
    content["R@1 of zero-shot"] = compared(before, before)["R@1"]
    able = [name for name in methods.NAMES[1:] if not why_not(name, drawings.kind)]
    for row in studied:
        measured = content["rows"].get(row.name, {}).get("finished") == row.finished
        if measured or not row.records or row.method not in able:
            continue
        reported = {seed: record["name"] for seed, record in row.records.items()}
        rate = gentlest(row)
        seeds = row.budget["rate_seeds"] if row.rates else row.records
        half = {str(seed): f"{row.name}-lr{rate:g}-seed{seed}" for seed in seeds}
        try:
            found, again = (compared(tested(study, row, runs), before) for runs in (reported, half))
        except (FileNotFoundError, ValueError) as error:  # made elsewhere, or on another backbone
            print(f"{row.name}: left out: {error}", flush=True)
            continue
        found |= {"finished": row.finished, "lr": row.lr, "gentlest": {"lr": rate} | again}
        print(row.name, json.dumps(found), flush=True)
        content["rows"][row.name] = found
        write_whole(file, json.dumps(content, indent=1) + "\n")
