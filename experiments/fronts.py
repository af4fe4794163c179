"""Measure what methods gain and forget at several strengths: `python -m experiments fronts --help`.

We train each method at its row's rate, and test each seed at every strength: on validation, on
test, on the further test sets and on both splits of the pre-training drawings. We keep the rank of
each right answer, so that every difference is paired. protocol.json has the rule for a strength and
the planned comparisons.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from cma import RetrievalModel, data
from cma.files import read_json, replacing
from cma.training import RunRecord, encode, query_ranks

from .curves import PLACES, sizes
from .drawings import NAME as DRAWINGS
from .drawings import build_drawings
from .gains import FULL, LORA, OURS, ZERO_SHOT
from .options import LONG
from .rows import DIRECTIONS, Budget, MethodRow, rates_of, recall
from .study import ALONE, Study, chosen, no_rate, study_of
from .world import check_pixels

STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.25)  # 0 is zero-shot, which needs no training
KEEPS = 5.0  # the most points of R@1 that the chosen strength may lose on the drawings for this
AT_PLACES = "LoRA at the adapter's places"
NAMES = (ZERO_SHOT, OURS, LORA, FULL, AT_PLACES, "AdaptFormer", "MV-Adapter tying")  # in this order
ON_CLIPS = NAMES[:3]
HIGHEST = 25  # higher ranks are kept as this one, so that all fronts fit into 4 MB


@dataclass
class FrontStudy(Study):
    """A study that tests each seed at every strength, and saves the ranks beside the row (.npz)."""

    @cached_property
    def sets(self) -> dict[str, data.RetrievalDataset]:
        """Return the test sets by short name."""
        beside = {kind: self.folder.with_name(f"{self.folder.name}-{kind}") for kind in ALONE}
        drawings = self.folder.with_name(DRAWINGS)
        return {
            "val": data.load(self.folder, "val"),
            "test": data.load(self.folder, "test"),
            **{k: data.load(place, "test") for k, place in beside.items() if place.exists()},
            "drawings-val": data.load(drawings, "val"),
            "drawings": data.load(drawings, "test"),
        }

    def enter(self, row: MethodRow, model: RetrievalModel, seed: int, record: RunRecord) -> None:
        """Enter the record of a run, and its ranks on every set at every strength."""
        row.records[str(seed)] = json.loads(record.to_json())
        name, found = model.active, {}
        strengths = STRENGTHS if name else (0.0,)
        for strength in strengths:
            model.set_adapter(name, strength if name else 1.0)
            for short, dataset in self.sets.items():
                encoded = encode(model, dataset, self.config)
                found[f"{short}/items"] = encoded.text_to_item.numpy().astype(np.uint16)
                for way, ranks in query_ranks(encoded, dataset, self.config).items():
                    low = np.minimum(ranks, HIGHEST).astype(np.uint8)
                    found.setdefault(f"{short}/{way}", []).append(low)
        model.set_adapter(name)
        save_ranks(ranks_file(row, self.results), seed, strengths, found)


def ranks_file(row: MethodRow, folder: Path) -> Path:
    """Return the file of a front's ranks, beside its row."""
    return row.path(folder).with_suffix(".npz")


def save_ranks(file: Path, seed: int, strengths: tuple[float, ...], found: dict) -> None:
    """Add the ranks of a seed to a file: {"SET/WAY": uint8 [seeds, strengths, Q]}, with `seeds`,
    `strengths` and, for each set, the item of each text.
    """
    kept = dict(np.load(file)) if file.exists() else {"seeds": np.zeros(0, int)}
    others = kept["seeds"] != seed  # test a seed again whose run was not recorded
    seeds = np.append(kept["seeds"][others], seed)
    made = {"seeds": seeds, "strengths": np.array(strengths)}
    for key, values in found.items():
        made[key] = values
        if isinstance(values, list):
            before = kept[key][others] if key in kept else []
            made[key] = np.stack([*before, np.stack(values)])
    with replacing(file) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **made)


@dataclass
class Front:
    """A method at several strengths, read from the folder of fronts."""

    row: MethodRow
    ranks: Mapping[str, np.ndarray]
    start: Front | None  # zero-shot, which is this front at strength 0

    @classmethod
    def read(cls, file: Path, start: Front | None = None) -> Front:
        """Read a front from the file of its row. Raises FileNotFoundError without its ranks, and
        ValueError for ranks of other seeds, or of another world or backbone than zero-shot.
        """
        row = read_json(file, MethodRow)
        ranks = dict(np.load(ranks_file(row, file.parent)))
        missing = {*row.records} - {*map(str, ranks["seeds"])}
        if missing:
            raise ValueError(f"{file}: no ranks of seed {', '.join(sorted(missing))}; delete both")
        if start and (row.world, row.backbone) != (start.row.world, start.row.backbone):
            raise ValueError(f"{file}: another world or backbone than {start.row.name}")
        return cls(row, ranks, start)

    def at(self, short: str, strength: float) -> MethodRow:
        """Return the front's row on one set at one strength, such as ("drawings-val", 0.5).

        Raises ValueError for an untested strength.
        """
        if strength == 0 and self.start:
            return self.start.at(short, 0.0)
        tested = self.ranks["strengths"].tolist()
        if strength not in tested:
            message = ", ".join(f"{one:g}" for one in tested)
            raise ValueError(f"{self.row.name}: no strength {strength:g}; there are {message}")
        at = tested.index(strength)
        ranks = {
            str(seed): {way: self.ranks[f"{short}/{way}"][n, at].tolist() for way in DIRECTIONS}
            for n, seed in enumerate(self.ranks["seeds"])
        }
        items = self.ranks[f"{short}/items"].tolist()
        return replace(self.row, dataset=short, ranks=ranks, text_to_item=items, further={})

    @property
    def strength(self) -> float:
        """The largest strength that loses at most `KEEPS` points of text-to-image R@1 on the
        validation drawings; 0 if none does.
        """
        least = recall(self.at("drawings-val", 0.0), DIRECTIONS[0])[0] - KEEPS
        tested = self.ranks["strengths"].tolist()
        kept = [s for s in tested if recall(self.at("drawings-val", s), DIRECTIONS[0])[0] >= least]
        return max(kept, default=0.0)


def read_fronts(results: Path, dataset: str) -> dict[str, Front]:
    """Return a dataset's complete fronts, {name: front}, zero-shot first; empty if none."""
    folder = results / "fronts"
    file = folder / f"{dataset}-{ZERO_SHOT}.json"
    if not file.exists():
        return {}
    fronts = {ZERO_SHOT: Front.read(file)}
    for name in NAMES[1:]:
        place = folder / "places" if name == AT_PLACES else folder
        method = LORA if name == AT_PLACES else name
        file = MethodRow(dataset, method, {}).path(place)
        if file.exists():
            front = Front.read(file, fronts[ZERO_SHOT])
            if not front.row.marks():
                fronts[name] = front
    return fronts


def studies(usual: Study, results: Path) -> Iterator[tuple[str, str, FrontStudy]]:
    """Yield (name, method, study) of each front, at the rate of its row and with the seeds of ours.

    Raises ValueError for a front whose row has no rate yet.
    """
    rates = rates_of(results / "methods", usual.training.name, usual.clip)
    seeds = usual.budget.of(OURS).seeds
    for name in NAMES if usual.training.kind == "image" else ON_CLIPS:
        method, own = name, {"given": rates}
        if name == AT_PLACES:
            method = LORA
            place = results / "curves" / "places-r8"
            own = {
                "given": rates_of(place, usual.training.name, usual.clip),
                "results": usual.results / "places",
                "options": sizes(usual, 8, PLACES),
                "config": usual.config.merge({"runs_dir": usual.config.runs_dir / "places"}),
            }
        budget = Budget(usual.budget.epochs, usual.budget.rates, seeds=seeds, scan=False)
        yield name, method, usual.changed(FrontStudy, budget=budget, **own)


OPTIONS = LONG | {"--methods": None, "--results": "results/fronts", "--runs": "runs/fronts"}


def run(options: argparse.Namespace) -> None:
    """Train methods at the rates of their rows, and test them at strengths from 0.25 to 1.25.

    The rows are in methods/ beside the folder of results. Finished work is kept: after a stop, run
    the command again.
    """
    usual = study_of(options)
    build_drawings(options.folder.parent)
    check_pixels(options.folder.parent, options.results)
    made = {name: (method, one) for name, method, one in studies(usual, options.results.parent)}
    for method, study in chosen(made, options.methods).values():
        if method != ZERO_SHOT and method not in study.given:
            raise no_rate(study, method)
        study.report(study.run(method))
