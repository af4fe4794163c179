"""An index of given vectors, 512 wide: opened, asked and added to, each by a process of its own.

The vectors are random: 20,000 clusters around one mean, with variances that fall as 1 / i in
clusters and between them, so that two items have a cosine of 0.6, and the nearest of a million one
of 0.9. A clip has twelve frames around its own vector.
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cma import RetrievalModel
from explorer.index import IndexConfig, MediaFile, MediaIndex, Where, weights
from explorer.index.table import Table
from tests import ROOT
from tests.bench.measure import report
from tests.conftest import build_clip, build_processor

WIDTH, CLUSTERS, QUERIES, ADDED, FRAMES = 512, 20_000, 50, 1000, 12
BATCH = 5000  # rows that are written at once
SUMMARY = {"median": statistics.median, "min": min}


def figures(quick: bool, items: int | None = None) -> dict:
    """Seconds, memory and recall of indexes of 10,000, 100,000 and a million pictures, and of
    10,000 clips; without the million if `quick`, and of `items` pictures alone if that is given.
    """
    found = {}
    sizes = [items] if items else [10_000, 100_000] + ([] if quick else [1_000_000])
    for kind, count in [("image", size) for size in sizes] + ([] if items else [("video", 10_000)]):
        with tempfile.TemporaryDirectory() as folder:
            own = found[f"{count:,} {'pictures' if kind == 'image' else 'clips'}"] = {}
            for name in ("write", "answers", "add"):
                own[name] = in_process(name, folder, count, kind)
                report(f"{name} {count:,} {kind}", own[name])
    return found


def in_process(name: str, *arguments: object) -> dict:
    """What a function of this module returns in a fresh process, with the private memory of that
    process.
    """
    code = (
        f"import json, sys\nfrom tests.bench import index\n"
        f"found = index.{name}(*json.loads(sys.argv[1]))\n"
        "print(json.dumps(found | {'private GiB at the end': index.private()}))"
    )
    command = [sys.executable, "-c", code, json.dumps(arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def private() -> float:
    """GiB of memory that is no page of a file (Linux), of this process now."""
    status = Path("/proc/self/status").read_text()
    return round(int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 2**20, 3)


def write(folder: str, items: int, kind: str) -> dict:
    """The index on disk, as a build leaves it, from vectors that are drawn."""
    start = time.perf_counter()
    table = Table.new(folder, header_of(toy_model()), Path(folder) / "media")
    drawing = 0.0
    for first in range(0, items, BATCH):
        begun = time.perf_counter()
        batch = drawn(range(first, min(items, first + BATCH)), kind, first)
        drawing += time.perf_counter() - begun
        table.add(batch)
    wrote = time.perf_counter()
    table.tidy()
    ended = time.perf_counter()
    return {
        "seconds to write": round(wrote - start - drawing, 1),
        "seconds to tidy, its index included": round(ended - wrote, 1),
        "GB on disk": round(size_of(Path(folder)) / 1e9, 3),
    }


def answers(folder: str, items: int, kind: str) -> dict:
    """Time to open and to answer, beside a matrix product, and the share of the true best ten that
    is found.
    """
    import lancedb  # noqa: F401 (imports are not part of opening)
    import pyarrow.compute  # noqa: F401

    model, texts = toy_model(), clustered(QUERIES, -1)
    start = time.perf_counter()
    opened = Asked.load(folder, model)
    opening = time.perf_counter() - start
    before = private()
    start = time.perf_counter()
    answer(opened, texts[0])
    first = time.perf_counter() - start
    seconds, busy, found, inside = [], [], [], []
    for text in texts:
        start, cpu = time.perf_counter(), time.process_time()
        found.append(answer(opened, text))
        seconds.append(time.perf_counter() - start)
        busy.append(time.process_time() - cpu)
    used = private() - before
    for text in texts[:10]:
        start = time.perf_counter()
        answer(opened, text, Where("image", "holidays/0001"))
        inside.append(time.perf_counter() - start)
    result = {
        "opened in seconds": round(opening, 3),
        "first answer, what it holds is read, seconds": round(first, 2),
        "answer, ms": summary(seconds),
        "answer, ms of processor time": summary(busy),
        "answer in one folder, ms": summary(inside),
        "private GiB of the answers": round(used, 3),
    }
    means = means_of(opened.table)
    plain = []
    for text in texts[:10]:
        start = time.perf_counter()
        means @ text
        plain.append(time.perf_counter() - start)
    if kind == "image":
        pairs = zip(found, best_ten(means, opened.table, texts), strict=True)
        recall = sum(len(one & other) for one, other in pairs) / (10 * QUERIES)
        result["recall@10"] = recall
    return result | {"a matrix product of the same size, ms": summary(plain)}


def add(folder: str, items: int, kind: str) -> dict:
    """Time to add `ADDED` items of given vectors, and what that writes."""
    import lancedb  # noqa: F401

    table = Table.open(folder)
    new = drawn(range(items, items + ADDED), kind, -2)
    before = size_of(Path(folder))
    start = time.perf_counter()
    table.add(new)
    table.tidy()
    seconds = time.perf_counter() - start
    assert table.now().rows == items + ADDED
    return {"seconds": round(seconds, 2), "MB": round((size_of(Path(folder)) - before) / 1e6, 2)}


class Asked(MediaIndex):
    """An index that takes the vectors `given` [T, D] for what a text tower makes of a query."""

    def _encode(self, texts: object) -> Tensor:
        return vars(self)["given"]

    def __setattr__(self, name: str, value: object) -> None:
        vars(self)[name] = value


def answer(opened: Asked, text: Tensor, where: Where | None = None) -> set[str]:
    """The names of the best ten for a vector [D]."""
    opened.given = text[None]
    return {name for name, _ in opened.query("a query", 10, where=where or Where())}


def summary(seconds: list[float]) -> dict[str, float]:
    return {name: round(1e3 * of(seconds), 1) for name, of in SUMMARY.items()}


def means_of(table: Table) -> Tensor:
    """The mean embeddings of all rows at length 1 [V, D], in the order of the rows."""
    means = torch.empty(table.rows, WIDTH)
    first = 0
    for batch in table._search(["vector"]).to_batches(BATCH):
        rows = batch["vector"].flatten().to_numpy().reshape(-1, WIDTH)
        means[first : first + len(rows)] = F.normalize(torch.tensor(rows), dim=1)
        first += len(rows)
    return means


def best_ten(means: Tensor, table: Table, texts: Tensor) -> list[set[str]]:
    """The names of the ten items nearest to each text, from all vectors in float32."""
    names = np.array(table._scan(["file_name"])["file_name"].to_pylist())
    return [{*names[(means @ text).topk(10).indices.numpy()]} for text in texts]


def drawn(numbers: range, kind: str, seed: int) -> list[tuple[MediaFile, Tensor]]:
    """Files with their embeddings."""
    vectors = clustered(len(numbers), seed)
    if kind == "image":
        frames = vectors[:, None]
    else:
        generator = torch.Generator().manual_seed(seed)
        frames = vectors[:, None] + torch.randn(len(vectors), FRAMES, WIDTH, generator=generator)
    return [(file(number, kind), one) for number, one in zip(numbers, frames, strict=True)]


def clustered(count: int, seed: int) -> Tensor:
    """Vectors [N, D] of clusters; the clusters are the same for all seeds."""
    shared, own = torch.Generator().manual_seed(1), torch.Generator().manual_seed(seed)
    spread = F.normalize(torch.arange(1, WIDTH + 1) ** -0.5, dim=0)  # the root of the variances
    mean = 1.2 * F.normalize(torch.randn(WIDTH, generator=shared), dim=0)
    centres = 0.75 * spread * torch.randn(CLUSTERS, WIDTH, generator=shared)
    chosen = centres[torch.randint(CLUSTERS, (count,), generator=own)]
    return 10 * (mean + chosen + 0.66 * spread * torch.randn(count, WIDTH, generator=own))


def file(number: int, kind: str) -> MediaFile:
    """One of the files, with as much about it as a build keeps."""
    name = f"holidays/{number // 1000:04}/IMG_{number:08}.jpg"
    about = {"size": 4_000_000, "modified": number, "digest": f"{number:064x}"}
    return MediaFile(name, name, kind, date="2014-07-01T12:30:00", **about)


def toy_model() -> RetrievalModel:
    return RetrievalModel(build_clip(), build_processor())


def header_of(model: RetrievalModel) -> weights.Header:
    return weights.Header({"name": "toy"}, None, weights.identify(model), IndexConfig())


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
