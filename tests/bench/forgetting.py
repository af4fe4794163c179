"""What training on one dataset costs on what CLIP knew: drawings of the pre-training sets, before and after.

python -m data_prep pretraining       # the drawings; 104 MB are fetched once
python -m tests.bench.forgetting      # half a minute for each row of a study; writes results/forgetting.json

Each adapter that a study has kept is tested on the drawings, in float32 and without training. A difference is
that of R@1 to zero-shot on the same captions, the mean over the seeds, with its paired interval over items.
"""

import argparse
import json
from pathlib import Path

import cma
from cma import recipes
from cma.files import write_whole
from cma.training import hardware, rows
from cma.training.rows import MethodRow
from cma.training.study import ZERO_SHOT, Study
from tests import ROOT

FILE = ROOT / "results" / "forgetting.json"


def ranked(study: Study, row: MethodRow) -> MethodRow:
    """A row of ranks on the dataset of `study`, of each seed's adapter in `study.config.runs_dir`."""
    found = MethodRow(study.folder.name, row.method, {})
    for seed, record in row.records.items():
        model = cma.RetrievalModel(study.clip, study.processor)
        if row.method != ZERO_SHOT:
            model.load_adapter(Path(study.config.runs_dir) / record["name"], "method")
        study.rank(found, model, study.config, seed)
        model.set_adapter(None)
    return found


def recalls(row: MethodRow) -> dict[str, list[float]]:
    """[R@1 in %, low, high] in both directions."""
    return {way: [round(value, 2) for value in rows.recall(row, way)] for way in rows.DIRECTIONS}


def entry(row: MethodRow, after: MethodRow, before: MethodRow) -> dict:
    """What is kept of a row: when its runs ended, R@1, and [difference, low, high, p] in both directions."""
    differences = {way: rows.difference(after, before, way) for way in rows.DIRECTIONS}
    return {
        "finished": {seed: record["finished"] for seed, record in row.records.items()},
        "R@1": recalls(after),
        "difference": {way: [round(value, 4) for value in found] for way, found in differences.items()},
    }


def main() -> None:
    """Measure every row that is not in results/forgetting.json, or has other runs there."""
    parser = argparse.ArgumentParser("python -m tests.bench.forgetting", description=main.__doc__)
    parser.add_argument("--drawings", type=Path, default=ROOT / "data" / "pretraining-drawings")
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "methods")
    parser.add_argument("--runs", default=str(ROOT / "runs" / "methods"), help="where the adapters are")
    options = parser.parse_args()
    config = recipes.recipe("mini-flickr30k").train_config().merge({"runs_dir": options.runs})
    study = Study(*cma.load_backbone("mini"), options.drawings, config, rows.Budget(), options.results)
    drawings = cma.data.load(options.drawings, "test")
    zero_shot = MethodRow(drawings.name, ZERO_SHOT, {}, records={"0": {"finished": ""}})
    before = ranked(study, zero_shot)
    content = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {"rows": {}}
    content |= {"dataset": drawings.name, "items": len(drawings), "texts": len(drawings.captions)}
    content |= {"hardware": hardware(study.clip.device), "R@1 of zero-shot": recalls(before)}
    for row in rows.read_rows(options.results):
        new = {seed: record["finished"] for seed, record in row.records.items()}
        known = content["rows"].get(row.name, {}).get("finished")
        if row.method == ZERO_SHOT or new == known or not new or cma.methods.why_not(row.method, drawings):
            continue
        content["rows"][row.name] = entry(row, ranked(study, row), before)
        print(row.name, json.dumps(content["rows"][row.name]), flush=True)
        write_whole(FILE, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
