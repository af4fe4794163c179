"""Whether the line of `explorer.index.chance` tells queries with an answer from those without.

Half of the test items are in the index, and the other half not: the captions of the first have an
answer, those of the others, which name the same kinds of things in other scenes, have none. No
caption that is asked calibrates: other captions of the index do, their own item left out, or for
clips those of the validation split, which is not in it.
"""

from collections.abc import Sequence
from random import Random

import torch

from cma import RetrievalModel, data
from explorer.index import MediaFile, MediaIndex, chance
from tests import ROOT
from tests.bench.measure import report

QUERIES = 500  # with an answer, and as many without
BEST = 20  # captions whose mean cosine with an item is subtracted in "corrected by item"
SETS = {
    "pictures": ("mini-flickr30k", "test"),
    "new things": ("mini-flickr30k-new", "test"),
    "moments of clips": ("mini-msrvtt", "test"),
}
ADAPTERS = {"image": "mini-flickr30k", "video": "mini-msrvtt"}


def figures(quick: bool) -> dict:
    """Area under the curve, misses and false alarms (%) for each set and model."""
    found = {}
    for label, (name, split) in SETS.items():
        dataset, spare = data.load(ROOT / "data" / name, split), []
        if dataset.kind == "video":  # its test clips have one caption each, which is asked
            others = data.load(ROOT / "data" / name, "val").items
            spare = [caption for item in others for caption in item.captions]
        for adapter in (None, ADAPTERS[dataset.kind]):
            model = RetrievalModel.from_pretrained("mini")
            if adapter:
                folder = ROOT / "results" / "methods" / f"{adapter}-cross-modal-adapter"
                model.load_adapter(folder, "adapter")
            key = f"{label}, {'adapter' if adapter else 'zero-shot'}"
            index = MediaIndex.build(model, dataset, max_files=400 if quick else None)
            found[key] = of_index(index, spare)
            report(key, found[key])
    return found


def of_index(whole: MediaIndex, spare: list[str]) -> dict:
    """The figures of one index, half of whose items are left out; `spare` captions calibrate, or
    those of the index that are not asked.
    """
    drawn = Random(1)
    order = drawn.sample(range(len(whole)), len(whole))
    half = min(QUERIES, len(whole) // 2)
    inside, outside = order[:half], order[half : 2 * half]
    index = whole.part(inside)
    files = whole.files
    asked = [drawn.choice(files[item].captions) for item in inside]
    without = [drawn.choice(files[item].captions) for item in outside]
    same = drawn.sample(spare or unasked(files, inside, asked), chance.CAPTIONS)
    line = chance.line(index, same)
    mean = index.scores(same).topk(min(BEST, len(same)), 0).values.mean(0)
    yes, no = scores(index, asked, mean), scores(index, without, mean)
    found = {name: compared(yes[name], no[name]) for name in yes}
    alarms, misses = percent(no["best"] > line), percent(yes["best"] <= line)
    return found | {"line": {"false alarms": alarms, "misses": misses}}


def unasked(files: Sequence[MediaFile], items: list[int], asked: list[str]) -> list[str]:
    """The captions of some items without the one of each that is asked."""
    pairs = zip(items, asked, strict=True)
    return [caption for item, one in pairs for caption in files[item].captions if caption != one]


def scores(index: MediaIndex, texts: list[str], mean: torch.Tensor) -> dict[str, torch.Tensor]:
    """What might tell an answer from none, for each text: the higher, the likelier."""
    cosines = index.scores(texts)
    first, second = cosines.topk(2).values.T
    return {
        "best": first,
        "best minus second": first - second,
        "corrected by item": (cosines - mean).amax(1),
    }


def compared(yes: torch.Tensor, no: torch.Tensor) -> dict[str, float]:
    """Area under the curve, and misses (%) at the threshold that has the false alarms wanted."""
    area = (yes[:, None] > no).float().mean() + (yes[:, None] == no).float().mean() / 2
    threshold = no.quantile(1 - chance.ALARMS)
    return {"AUC": round(area.item(), 3), "misses": percent(yes <= threshold)}


def percent(which: torch.Tensor) -> float:
    return round(100 * which.float().mean().item(), 1)
