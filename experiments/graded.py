"""What changes if a picture that shows a part of a caption counts, too: nDCG@10 with relevance in
grades, on mini-flickr30k.

The relevance of a picture for a caption is the share of the caption's claims that are true of it
(`Caption.relevance`), which the records of the composed scenes tell exactly. Nothing is trained.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch

from cma import RetrievalModel, data
from cma.files import write_whole
from cma.similarity import compare
from cma.training import encode
from data_prep.mini.world import read_pictures

from .fronts import Front, read_fronts
from .gains import OURS, ZERO_SHOT
from .options import LONG, RESULTS
from .rows import NDCG, MethodRow, drawn_means, holm, interval, recall, two_sided
from .study import Study, study_of
from .world import check_pixels

FILE = "graded.json"  # in the folder of results
WAY = "text_to_visual"


def relevance(dataset: data.RetrievalDataset) -> torch.Tensor:
    """Return how relevant each picture of an offline benchmark is for each text: [T, V]."""
    known = read_pictures(dataset.folder / "media")
    shown = [known[item.id] for item in dataset.items]
    captions = [caption for picture in shown for caption in picture.captions]
    return torch.tensor([[one.relevance(of.scene) for of in shown] for one in captions])


def ndcg(similarity: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
    """Return nDCG@10 of each query, from 0 to 1: [Q].

    It is DCG / ideal DCG, where DCG = Σ relevance / log2(1 + rank) over the first ten (Järvelin and
    Kekäläinen 2002). Among equal scores the least relevant comes first, so ties count against the
    model.

    Args:
        similarity: Scores [Q, C] of the candidates of each query.
        relevance: [Q, C], finite and not negative; each query needs a value above 0.

    Raises:
        ValueError: For shapes that differ, NaN, and a query without a relevant candidate (named).
    """
    if similarity.ndim != 2 or similarity.shape != relevance.shape:
        shapes = f"{list(similarity.shape)} and {list(relevance.shape)}"
        raise ValueError(f"expected scores and relevance of one shape [Q, C], not {shapes}")
    relevance = relevance.double()
    if similarity.isnan().any() or not (relevance.isfinite() & (relevance >= 0)).all():
        raise ValueError("scores must be no NaN, and relevance finite and not negative")
    if len(bare := (relevance.amax(1) == 0).nonzero().flatten().tolist()):
        raise ValueError(f"queries {bare[:5]} ({len(bare)}) have no relevant candidate")
    worst_first = relevance.argsort(dim=1, stable=True)
    order = similarity.gather(1, worst_first).argsort(dim=1, descending=True, stable=True)
    found = relevance.gather(1, worst_first.gather(1, order))
    best = relevance.sort(dim=1, descending=True).values
    weights = 1 / (1 + torch.arange(1, relevance.shape[1] + 1)[:10]).log2()
    gained, ideal = ((rows[:, :10] * weights).sum(1) for rows in (found, best))
    return gained / ideal


def values_of(
    study: Study, row: MethodRow, test: data.RetrievalDataset, graded: torch.Tensor
) -> np.ndarray:
    """Return nDCG@10 of each text, from 0 to 1, with the kept adapter of each seed: [seeds, T]."""
    found = []
    for _, record in sorted(row.records.items()):
        model = RetrievalModel(study.clip, study.processor)
        if row.method != ZERO_SHOT:
            model.load_adapter(study.config.runs_dir / record["name"], "method")
        encoded = encode(model, test, study.config)
        scores = compare(encoded.text, encoded.frames, encoded.mask, study.config).cpu()
        found.append(ndcg(scores, graded).numpy())
        model.set_adapter(None)
    return np.stack(found)


def ranking(front: Front) -> dict:
    """Return R@1 and nDCG@10 with one right picture for each text, each [%, low, high]."""
    row = front.at("test", 1.0 if front.start else 0.0)
    return {name: recall(row, WAY, k) for name, k in (("R@1", 1), ("nDCG@10", NDCG))}


OPTIONS = LONG | {"--results": RESULTS, "--runs": "runs/fronts"}


def run(options: argparse.Namespace) -> None:
    """Rank the fronts' methods by nDCG@10 with relevance in grades, without training.

    The adapters are those that `fronts` keeps in --runs, at strength 1. Writes graded.json in the
    folder of results.
    """
    study = study_of(options)
    check_pixels(options.folder.parent, options.results)
    test, rows, drawn, means = data.load(options.folder, "test"), {}, {}, {}
    fronts = read_fronts(options.results, test.name)
    if OURS not in fronts:
        raise ValueError(f"{options.results}: no finished front of ours; `fronts` makes it")
    owner, graded = test.text_to_item.numpy(), relevance(test)
    for name, front in fronts.items():
        front.row.check_backbone(study.clip)
        try:
            values = values_of(study, front.row, test, graded)
        except FileNotFoundError as error:  # trained elsewhere
            print(f"{name}: left out: {error}", flush=True)
            continue
        drawn[name] = drawn_means(front.row.name, values, owner)
        means[name] = 100 * float(values.mean())
        rows[name] = ranking(front) | {"graded": (means[name], *interval(drawn[name]))}
        print(name, json.dumps(rows[name]), flush=True)
    others = [name for name in rows if name != OURS]
    differences = {name: drawn[OURS] - drawn[name] for name in others}
    corrected = holm([two_sided(differences[name]) for name in others])
    for name, p in zip(others, corrected, strict=True):
        gain = (means[OURS] - means[name], *interval(differences[name]), p)
        rows[name]["ours minus it"] = gain
    content = {"dataset": test.name, "items": len(test), "texts": len(test.captions), "rows": rows}
    write_whole(options.results / FILE, json.dumps(content, indent=1) + "\n")
