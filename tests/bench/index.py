"""An index of a million items, 512 wide, in half precision: opened, asked and added to, each by a
process.

The vectors are random: 20,000 clusters around one mean, with variances that fall as 1 / i in
clusters and between them, so that two items have a cosine of 0.6, and the nearest of a million one
of 0.9.
"""

import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F

from cma import RetrievalModel
from explorer.index import IndexConfig, Where, build, index, listing, segment, store, weights
from explorer.index.compact import compact
from tests import ROOT
from tests.bench.measure import told
from tests.conftest import build_clip, build_processor

WIDTH, CLUSTERS, QUERIES, ADDED = 512, 20_000, 50, 1000
SUMMARY = {"median": statistics.median, "min": min}


def figures(quick: bool, items: int | None = None) -> dict:
    """Seconds, memory and recall of an index of a million items, or of 100,000."""
    items = items or (100_000 if quick else 1_000_000)
    found = {"items": items}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("write", "exact", "lance", "approximate", "add"):
            found[name] = in_process(name, folder, items)
            told(name, found[name])
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


def write(folder: str, items: int) -> dict:
    """The index on disk, as a build leaves it, from vectors that are drawn."""
    start = time.perf_counter()
    segments = []
    header = header_of(toy_model())
    for first in range(0, items, store.FULL):
        files = [file(number) for number in range(first, min(items, first + store.FULL))]
        part = segment.Segment.of(
            files, clustered(len(files), first), torch.ones(len(files)), half=True
        )
        segments.append(part.write(Path(folder), store.as_json(header)))
    whole = store.Segments(header, media_root(folder), tuple(segments), torch.arange(items))
    store.publish(Path(folder), whole)
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "GB on disk": round(size_of(Path(folder)) / 1e9, 3),
    }


def exact(folder: str, items: int) -> dict:
    """The embedded index: time to open and to answer."""
    start = time.perf_counter()
    opened = Asked.load(folder, toy_model())
    return ask(opened, opened, time.perf_counter() - start)


def approximate(folder: str, items: int) -> dict:
    """The embedded index once it is compacted with codes: time to make them, to open it and to
    answer.
    """
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(folder, place, dirs_exist_ok=True)
        start = time.perf_counter()
        before = size_of(Path(place))
        compact(place, approximate=True)
        making = time.perf_counter() - start
        size = size_of(Path(place)) - before
        start = time.perf_counter()
        opened = Asked.load(place, toy_model())
        found = ask(opened, opened, time.perf_counter() - start)
    return {"compacted in seconds": round(making, 1), "MB of codes": round(size / 1e6, 1)} | found


def lance(folder: str, items: int) -> dict:
    """The same items in a LanceDB table: time to write it, to open it and to answer."""
    stored = Asked.load(folder, toy_model())
    with tempfile.TemporaryDirectory() as place:
        start = time.perf_counter()
        stored.to_lance(place)
        writing = time.perf_counter() - start
        size = size_of(Path(place))
        start = time.perf_counter()
        opened = Asked.load(place, stored.model)
        found = ask(opened, stored, time.perf_counter() - start)
        start = time.perf_counter()
        opened.store.add(
            [(file(items + i), one[None]) for i, one in enumerate(clustered(ADDED, -2))]
        )
        adding = time.perf_counter() - start
    return {
        "written in seconds, lists included": round(writing, 1),
        "GB on disk": round(size / 1e9, 3),
        "seconds to add 1,000": round(adding, 2),
    } | found


def ask(opened: "Asked", exact: "Asked", opening: float) -> dict:
    """Time to answer, and the share of the true best ten that is found."""
    texts = clustered(QUERIES, -1)
    before = private()
    start = time.perf_counter()
    answer(opened, texts[0])
    first = time.perf_counter() - start
    seconds, busy, found = [], [], []
    for text in texts:
        start = time.perf_counter()
        cpu = time.process_time()
        found.append(answer(opened, text))
        seconds.append(time.perf_counter() - start)
        busy.append(time.process_time() - cpu)
    used = private() - before
    inside = []
    for text in texts[:10]:
        start = time.perf_counter()
        answer(opened, text, Where("image", "holidays/0001"))
        inside.append(time.perf_counter() - start)
    pairs = zip(found, best_ten(exact, texts), strict=True)
    recall = sum(len(one & other) for one, other in pairs) / (10 * QUERIES)
    return {
        "opened in seconds": round(opening, 3),
        "first answer, with the digests of what it reads, seconds": round(first, 2),
        "answer, ms": summary(seconds),
        "answer, ms of processor time": summary(busy),
        "answer in one folder, ms": summary(inside),
        "recall@10": recall,
        "private GiB of the answers": round(used, 3),
    }


def answer(opened: "Asked", text: Tensor, where: Where = listing.EVERYWHERE) -> set[str]:
    """The names of the best ten for a vector [D]."""
    opened.given = text[None]
    return {name for name, _ in opened.query("a query", 10, where=where)}


def summary(seconds: list[float]) -> dict[str, float]:
    return {name: round(1e3 * of(seconds), 1) for name, of in SUMMARY.items()}


def add(folder: str, items: int) -> dict:
    """What a build writes that finds `ADDED` new files."""
    before = {path.name for path in Path(folder).iterdir()}
    known = [file(number) for number in range(items)]
    new = [file(items + number) for number in range(ADDED)]
    vectors = dict(zip([one.media for one in new], clustered(ADDED, -2), strict=True))
    model = toy_model()
    read = mock.patch.object(
        build.Building, "_read", lambda self, one: (one, vectors.get(one.media))
    )
    embedded = mock.patch.object(
        build, "embed", lambda _, pixels: [vector[None] for vector in pixels]
    )
    root = media_root(folder)
    found = mock.patch.object(listing, "find", lambda source: (root, known + new, []))
    with read, embedded, found:
        start = time.perf_counter()
        built = index.MediaIndex.build(model, "media", folder=folder)
        seconds = time.perf_counter() - start
    written = [
        path for path in Path(folder).iterdir() if path.name not in before or path.suffix == ".json"
    ]
    assert len(built) == items + ADDED
    return {
        "seconds": round(seconds, 1),
        "MB": round(sum(path.stat().st_size for path in written) / 1e6, 2),
    }


def media_root(folder: str) -> Path:
    """Where the files are said to be; a build stops if their first folder is gone."""
    root = Path(folder) / ".media"  # an index allows hidden things beside it
    (root / "holidays").mkdir(parents=True, exist_ok=True)
    return root


class Asked(index.MediaIndex):
    """An index that takes the vectors `given` [T, D] for what a text tower makes of a query."""

    def _encode(self, texts: object) -> Tensor:
        return vars(self)["given"]

    def __setattr__(self, name: str, value: object) -> None:
        vars(self)[name] = value


def best_ten(opened: index.MediaIndex, texts: Tensor) -> list[set[str]]:
    """The names of the ten items nearest to each text, from all stored vectors in float32."""
    scores = torch.empty(len(texts), len(opened))
    for items in torch.arange(len(opened)).split(2**16):
        scores[:, items] = (
            F.normalize(texts, dim=1) @ F.normalize(opened.store.frames(items), dim=1).T
        )
    return [{opened.files[i].file_name for i in best} for best in scores.topk(10).indices.tolist()]


def clustered(count: int, seed: int) -> Tensor:
    """Vectors [N, D] of clusters; the clusters are the same for all seeds."""
    shared, own = torch.Generator().manual_seed(1), torch.Generator().manual_seed(seed)
    spread = F.normalize(torch.arange(1, WIDTH + 1) ** -0.5, dim=0)  # the root of the variances
    mean = 1.2 * F.normalize(torch.randn(WIDTH, generator=shared), dim=0)
    centres = 0.75 * spread * torch.randn(CLUSTERS, WIDTH, generator=shared)
    chosen = centres[torch.randint(CLUSTERS, (count,), generator=own)]
    return 10 * (mean + chosen + 0.66 * spread * torch.randn(count, WIDTH, generator=own))


def file(number: int) -> listing.MediaFile:
    """One of the files, with as much about it as a build keeps."""
    name = f"holidays/{number // 1000:04}/IMG_{number:08}.jpg"
    return listing.MediaFile(
        name, name, "image", size=4_000_000, modified=number, digest=f"{number:064x}"
    )


def toy_model() -> RetrievalModel:
    return RetrievalModel(build_clip(), build_processor())


def header_of(model: RetrievalModel) -> weights.Header:
    return weights.Header({"name": "toy"}, None, weights.identify(model), IndexConfig())


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
