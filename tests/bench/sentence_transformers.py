"""The same training by sentence-transformers and by us: the two programs of the page
docs/sentence-transformers.md, each in a fresh process, in turn.

Their trainer needs `datasets`, which `test` does not bring; `--python` names an interpreter that
has it, beside `cma`, `peft` and sentence-transformers.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests import ROOT
from tests.bench.measure import report

PAGE = ROOT / "docs" / "sentence-transformers.md"
SIDES = ("ours", "theirs")  # in the page's order
PAIRS = 2
WAYS = ("text_to_visual", "visual_to_text")


def programs() -> dict[str, str]:
    """The page's two programs, by side."""
    found = re.findall(r"(?s)```python\n(.*?)```", PAGE.read_text("utf-8"))
    return dict(zip(SIDES, found, strict=True))


def lines_of(program: str) -> int:
    """How many lines of a program one types: those that are not blank."""
    return sum(bool(line.strip()) for line in program.splitlines())


def figures(quick: bool, python: str = sys.executable) -> dict:
    """Processor seconds and GiB of each side, ours ÷ theirs by pairs; recalls, lines of each."""
    pairs = 1 if quick else PAIRS
    runs = [{side: one(side, python) for side in SIDES} for _ in range(pairs)]
    found = {"pairs": pairs}
    for what in ("seconds", "GiB"):
        ratios = [pair["ours"][what] / pair["theirs"][what] for pair in runs]
        found[f"{what}, ours ÷ theirs"] = {
            "median": round(statistics.median(ratios), 2),
            "min": round(min(ratios), 2),
            "max": round(max(ratios), 2),
        }
    for side, program in programs().items():
        own = [pair[side] for pair in runs]
        found[side] = {what: [run[what] for run in own] for what in ("seconds", "GiB")}
        found[side] |= own[0]["found"] | {"lines": lines_of(program)}
    return found


def one(side: str, python: str) -> dict:
    """Run one program in a folder of its own; a JSON line of what it took and found."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").symlink_to(ROOT / "data")
        own = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [python, "-m", "tests.bench.sentence_transformers", side]
        done = subprocess.run(
            command, cwd=folder, env=own, stdout=subprocess.PIPE, text=True, check=True
        )
    figure = json.loads(done.stdout.splitlines()[-1])
    report(side, figure)
    return figure


def measured(side: str) -> dict:
    """Run a program here; its imports are not counted. `found` has the recalls of its model."""
    program = programs()[side]
    imports = re.findall(r"(?m)^(?:import|from) [^(\n]+(?:\([^)]*\))?$", program)
    exec("\n".join(imports), {})
    start = time.process_time()  # of the processor: others may use the machine, too
    names: dict = {}
    exec(compile(program, str(PAGE), "exec"), names)
    seconds = time.process_time() - start
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]
    trained = sum(p.numel() for p in names["model"].parameters() if p.requires_grad)
    found = {"trained": trained}
    return {
        "seconds": round(seconds, 1),
        "GiB": round(int(peak) / 2**20, 2),
        "found": found | recalls(side, names["model"]),
    }


def recalls(side: str, model: object) -> dict:
    """R@1 both ways on the test split, with N and 95 % intervals over items: by our own metrics."""
    import torch
    from PIL import Image

    import cma
    from cma.metrics import bootstrap_interval, ranks, visual_ranks
    from cma.recipes import recipe

    test = cma.load_dataset("data/mini-flickr30k", "test")
    if side == "ours":
        config = recipe("mini-flickr30k").train_config()
        metrics = cma.evaluate(model, test, config)
        found = {way: (metrics[way]["R@1"], *metrics["intervals"][way]["R@1"]) for way in WAYS}
    else:
        pictures = [Image.open(test.path(item)).convert("RGB") for item in test.items]
        texts, items = (
            torch.nn.functional.normalize(torch.tensor(model.encode(one)), dim=-1)
            for one in (test.captions, pictures)
        )
        owner = torch.as_tensor(test.text_to_item)
        scores = texts @ items.T
        of = {WAYS[0]: (ranks(scores, owner), owner)}
        of[WAYS[1]] = (visual_ranks(scores, owner), torch.arange(len(pictures)))
        found = {
            way: (100 * float((rank == 1).double().mean()), *bootstrap_interval(rank, whose))
            for way, (rank, whose) in of.items()
        }
    rounded = {way: [round(value, 1) for value in values] for way, values in found.items()}
    return {"N": [len(test.captions), len(test.items)], "R@1": rounded}


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1])))
