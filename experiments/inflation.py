"""Measure what raises a recall without a better model: `python -m experiments inflation --help`.

Four practices, each compared with the same model as usual. Dual softmax (Cheng et al. 2021,
"Improving Video-Text Retrieval by Multi-Stream Corpus Alignment and Dual Softmax Loss", CAMoE) and
QB-Norm (Bogolin et al. 2022, "Cross Modal Retrieval with Querybank Normalisation") normalise the
similarities by other queries. An epoch chosen on test, and a clip pooled by its own caption, look
at the answers.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

import torch
from torch import Tensor

from cma import RetrievalModel, TrainConfig, data, methods, metrics
from cma.data import RetrievalDataset
from cma.files import write_whole
from cma.recipes import recipe
from cma.similarity import compare, mean_pooled
from cma.training import Embeddings, RunRecord, encode, query_ranks, train

from .gains import OURS, ZERO_SHOT
from .options import RESULTS
from .rows import DIRECTIONS, rows_of
from .study import backbone_of, world_of
from .world import kept_in

FILE = "inflation.json"  # in the folder of results
USUAL = "as usual"
HONEST = (USUAL, "chosen on validation")  # the honest practices, for comparison
BETA = 20  # QB-Norm's inverse temperature, on cosines
EPOCHS = (4, 20)  # numbers of epochs to choose from
Ranks = dict[str, list[int]]  # of the right answers, by direction


def dual_softmax(similarity: Tensor, scale: float) -> Tensor:
    """Weigh similarities [Q, G] of all test queries by their softmax over these queries.

    scale: the logit scale. A candidate counts less for a query if other queries want it more.
    """
    exact = similarity.double()  # in float32, shares among thousands of queries become 0
    return exact * (scale * exact).softmax(0)


def normalised_by(bank: Tensor, similarity: Tensor) -> Tensor:
    """Normalise similarities [Q, G] by those of a bank of queries [B, G], as dynamic QB-Norm does.

    That is, only for a query whose first candidate is also the first of some query in the bank.
    """
    bank, similarity = bank.double(), similarity.double()
    shares = (BETA * similarity).exp() / (BETA * bank).exp().sum(0)
    often = torch.isin(similarity.argmax(1), bank.argmax(1))
    return torch.where(often[:, None], shares, similarity)


def by_own_caption(encoded: Embeddings, temperature: float) -> Tensor:
    """Return the cosine [T, V] of captions with clips, each pooled by its own first caption."""
    counts = encoded.text_to_item.bincount()
    own = encoded.text[counts.cumsum(0) - counts]  # [V, D]
    scores = (encoded.frames @ own[:, :, None]).squeeze(2) / temperature  # [V, F]
    weights = scores.masked_fill(~encoded.mask.bool(), -torch.inf).softmax(1)
    return mean_pooled(encoded.text, weights[:, None] @ encoded.frames)


def practices(
    encoded: Embeddings, bank: Embeddings, test: RetrievalDataset, config: TrainConfig, scale: float
) -> Iterator[tuple[str, Ranks]]:
    """Yield each practice and its ranks, `USUAL` first. bank: the training split; scale: as in
    `dual_softmax`.
    """

    def ranked(forward: Tensor, back: Tensor) -> Ranks:
        """Return the ranks; forward [T, V]: the queries are texts; back [V, T]: they are items."""
        mode, owner = test.protocol["visual_to_text"], encoded.text_to_item
        found = metrics.ranks(forward, owner), metrics.visual_ranks(back.T, owner, mode)
        return {way: ranks.tolist() for way, ranks in zip(DIRECTIONS, found, strict=True)}

    usual = compare(*encoded[:3], config)
    yield USUAL, ranked(usual, usual.T)
    both = dual_softmax(usual, scale), dual_softmax(usual.T, scale)
    yield "dual softmax over the test queries", ranked(*both)
    texts = compare(bank.text, *encoded[1:3], config)
    items = compare(encoded.text, *bank[1:3], config)
    both = normalised_by(texts, usual), normalised_by(items.T, usual.T)
    yield "QB-Norm, a bank of the training queries", ranked(*both)
    if test.kind == "video":
        pooled = by_own_caption(encoded, config.temperature)
        yield "each clip pooled by its own caption", ranked(pooled, pooled.T)


def looked_at(
    model: RetrievalModel, training: RetrievalDataset, test: RetrievalDataset, config: TrainConfig
) -> tuple[list[float], list[Ranks]]:
    """Train ours, or continue; return each epoch's R@1 on validation and ranks on test."""
    options = methods.options_of(OURS, training)
    methods.attach(model, OURS, config.name, config.seed, **options)

    def keep(record: RunRecord) -> None:
        model.save_adapter(record.folder / f"epoch-{len(record.history)}", config.name)

    record = train(model, training, config, keep)
    tested = []
    for entry in record.history:
        epoch = f"epoch-{entry['epoch']}"
        model.load_adapter(record.folder / epoch, epoch)
        tested.append(query_ranks(encode(model, test, config), test, config))
        model.remove_adapter(epoch)
    model.remove_adapter(config.name)
    watched = [entry["validation"][DIRECTIONS[0]]["R@1"] for entry in record.history]
    return watched, tested


def row_of(model: str, practice: str, ranks: Ranks, usual: Ranks, test: RetrievalDataset) -> dict:
    """Return a row of the record: a practice's R@1, and its paired difference from `USUAL`."""
    row = {"model": model, "practice": practice, "R@1": {}, "difference": {}}
    for way, owner in zip(DIRECTIONS, (test.text_to_item, range(len(test))), strict=True):
        found = metrics.summary(ranks[way])["R@1"], *metrics.bootstrap_interval(ranks[way], owner)
        row["R@1"][way] = found
        row["difference"][way] = metrics.bootstrap_difference(ranks[way], usual[way], owner)
    return row


OPTIONS = {
    "folder": None,
    "--backbone": "mini",
    "--results": RESULTS,
    "--runs": "runs/inflation",
}


def run(options: argparse.Namespace) -> None:
    """Measure what raises R@1 on a dataset's test split without a better model: minutes, and for
    pictures two trainings, of 4 and of 20 epochs.

    It scores the recorded adapter and zero-shot again; the trainings use the same rate. Results go
    into inflation.json in the folder of results. A training continues after a stop. Raises
    ValueError for a dataset without a finished row of ours, and for another world or backbone.
    """
    test, training = (data.load(options.folder, split) for split in ("test", "train"))
    row = rows_of(options.results / "methods", test.name).get(OURS)
    if not row or not row.records:
        hint = f"`python -m experiments study {options.folder}` makes it"
        raise ValueError(f"{test.name}: no row of {OURS} in {options.results / 'methods'}; {hint}")
    if row.world != world_of(options.folder):
        raise ValueError(f"{options.folder}: its items are not those of {row.name}")
    model = RetrievalModel(*backbone_of(options.backbone))
    row.check_backbone(model.clip)
    config = recipe(test.recipe).train_config().merge({"runs_dir": options.runs, "lr": row.lr})
    about = RunRecord.describe(model, test, config).stamp(model.device)
    seed = next(iter(row.records))
    found = {"texts": len(test.captions), "items": len(test), "seed": int(seed), "lr": row.lr}
    found |= {"commit": about.commit, "finished": about.finished, "rows": []}
    # null: not measured yet
    found["epochs"] = dict.fromkeys(map(str, EPOCHS)) if test.kind == "image" else {}

    def save() -> None:
        content = kept_in(options.results, FILE) | {test.name: found}
        write_whole(options.results / FILE, json.dumps(content, indent=1) + "\n")

    def enter(name: str, practice: str, ranks: Ranks, usual: Ranks) -> None:
        found["rows"].append(row_of(name, practice, ranks, usual, test))
        print(test.name, json.dumps(found["rows"][-1]), flush=True)

    model.load_adapter(options.results / "methods" / row.name, OURS, strict=True)
    scale = float(model.logit_scale)
    for name in (OURS, ZERO_SHOT):
        model.set_adapter(OURS if name == OURS else None)
        encoded, bank = (encode(model, split, config) for split in (test, training))
        made = dict(practices(encoded, bank, test, config, scale))
        for practice, ranks in made.items():
            enter(name, practice, ranks, made[USUAL])
    save()
    for epochs in found["epochs"]:
        own = {"name": f"{row.name}-epochs{epochs}", "epochs": int(epochs), "seed": int(seed)}
        watched, tested = looked_at(model, training, test, config.merge(own))
        reached = [metrics.summary(ranks[DIRECTIONS[0]])["R@1"] for ranks in tested]
        found["epochs"][epochs] = {"validation": watched, "test": reached}
        usual = tested[watched.index(max(watched))]
        for split, scores in found["epochs"][epochs].items():
            best = scores.index(max(scores))
            words = f"epoch {best + 1} of {epochs}, chosen on {split}"
            enter(OURS, words, tested[best], usual)
        save()
