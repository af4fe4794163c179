"""What only the notebooks use: colours, exercises, names of runs, embeddings that several of them
need, and what guessing reaches."""

import hashlib
import re
import textwrap
from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from functools import lru_cache
from html import escape
from io import BytesIO
from itertools import combinations
from pathlib import Path

import cma
import explorer
import matplotlib.pyplot as plt
import numpy as np
import torch
from cma import metrics, training
from cma.config import NO_EFFECT, WHERE, TrainConfig
from cma.data import RetrievalDataset
from cma.files import read_jsonl, write_whole
from cma.media import MediaError
from cma.recipes import Recipe
from data_prep.mini.caption_styles import ceiling
from data_prep.mini.pictures import Picture
from data_prep.mini.world import RECORDS, read_pictures
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats
from PIL import Image, ImageOps
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.hooks import RemovableHandle

BLUE = "#3b6ea5"
KEPT = 4  # files of captions' embeddings beside the indexes of one split
ORANGE = "#d9822b"
GREY = "#9aa0a6"
COLOURS = (GREY, BLUE, ORANGE, "#5b8c5a", "#8a5a9e", "#b04a4a")
ZERO, OURS, FULL, LORA = "zero-shot", "cross-modal adapter", "full fine-tuning", "LoRA"
TWIN, RECORDED = "adapter without sharing", "recorded adapter"  # the study's, of the method OURS
LOOK = {  # one colour and one mark for each model, in every figure of 03, 04 and a3; zero-shot is hollow
    ZERO: {"color": GREY, "marker": "o", "mfc": "white"},
    OURS: {"color": BLUE, "marker": "o"},
    RECORDED: {"color": COLOURS[3], "marker": "D"},
    FULL: {"color": "black", "marker": "s"},
    LORA: {"color": ORANGE, "marker": "P"},
}
STYLES = ("list", "sentence", "place", "count", "part")  # a picture of mini-flickr30k has one of each
KINDS = ("right", "other things", "some of the things", "another count", "another background")
KINDS += ("another place or size", "true, too")  # of a first answer, see `kinds_of`


def folded(answer: str) -> Markdown:
    """Return an answer in Markdown that a notebook shows only after a click."""
    return Markdown(f"<details><summary>Answer</summary>\n\n{answer}\n\n</details>")


def checked(
    yours: Callable, ours: Callable, *cases: tuple, through: Callable = lambda call, *case: call(*case)
) -> Callable:
    """Return the function that an exercise goes on with: `yours` if it is right, else `ours`.

    It is right if it gives the same for every case, a tuple of arguments; then this prints so. A
    wrong one is told why. One that is not filled in yet (it returns None) prints nothing.
    `through(function, *case)` gives what is compared, by default what the function returns.
    """
    for number, case in enumerate(cases, start=1):
        result = through(yours, *case)
        wanted = through(ours, *case)
        if result is None or result is ...:
            return ours
        try:
            torch.testing.assert_close(torch.as_tensor(result), torch.as_tensor(wanted), check_dtype=False)
        except AssertionError as error:
            message = f"case {number} of {len(cases)} differs"
            print(f"{message}, so we go on with cma's own function: {error}")
            return ours
    print(f"right, in all {len(cases)} cases")
    return yours


@lru_cache
def _of_shapes(r: int, d_s: int, widths: tuple, sites: int) -> cma.CrossModalAdapters:
    """Return the library's module for an adapter of these sizes, without numbers."""
    with torch.device("meta"):
        layers = {tower: sites // 2 for tower, _ in widths}
        return cma.CrossModalAdapters(cma.AdapterConfig(r, d_s), dict(widths), layers)


def cma_output(adapter: dict[str, Tensor], tower: str, site: int, z: Tensor) -> Tensor:
    """Return what `cma` adds to z at a site, by the ten tensors of an adapter (exercise of 02)."""
    sites, d_s, r = adapter["shared_weight"].shape
    widths = tuple((name, adapter[f"{name}.down_weight"].shape[2]) for name in ("vision", "text"))
    return torch.func.functional_call(_of_shapes(r, d_s, widths, sites), adapter, (tower, site, z))


def cma_hook(module: nn.Module, f: Callable[[Tensor], Tensor]) -> RemovableHandle:
    """Let `module` give z + f(z) in place of its output z, as `cma` does; returns the handle."""
    return module.register_forward_hook(lambda module, inputs, z: z + f(z))


def bars(values: dict[str, float], unit: str = "%") -> str:
    """Return HTML with a horizontal bar for each of `values`, from 0 to 100."""
    line = (
        '<div style="display:flex;align-items:center;gap:8px"><span style="width:17em">{}</span>'
        f'<span style="width:{{:.0f}}px;height:10px;background:{BLUE}"></span>{{:.1f}} {unit}</div>'
    )
    return "".join(line.format(escape(name), 2.5 * value, value) for name, value in values.items())


def playing(clips: Sequence[tuple[list[Image.Image], str]], lit: Sequence[bool] = ()) -> str:
    """Return HTML with clips that play, (frames, caption) each; a frame that is `lit` has an orange edge.

    A clip becomes a GIF of 128 pixels in 64 colours inside the HTML, so that it plays everywhere.
    """
    found = []
    for frames, caption in clips:
        drawn = [ImageOps.fit(frame, (128, 128)) for frame in frames]
        for at, picture in enumerate(drawn if lit else ()):
            drawn[at] = ImageOps.expand(picture, 6, ORANGE if lit[at] else "white")
        drawn = [picture.quantize(64, dither=Image.Dither.NONE) for picture in drawn]
        drawn[0].save(file := BytesIO(), "gif", save_all=True, append_images=drawn[1:], duration=150, loop=0)
        source = f"data:image/gif;base64,{b64encode(file.getvalue()).decode()}"
        found.append(f'<figure style="margin:0;width:260px"><img src="{source}" alt="{escape(caption)}">')
        found.append(f"<figcaption>{escape(caption)}</figcaption></figure>")
    return f'<div style="display:flex;gap:16px">{"".join(found)}</div>'


def strip(frames: list[Image.Image]) -> str:
    """Return HTML with the frames of a clip in a row, above the boxes of `shaded`."""
    found = []
    for frame in frames:
        ImageOps.fit(frame, (64, 64)).save(file := BytesIO(), "jpeg", quality=80)
        source = f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}"
        text = "one of the frames that the model reads"
        found.append(f'<img src="{source}" alt="{text}" style="width:64px;margin:2px">')
    return f'<div style="display:flex">{"".join(found)}</div>'


def shaded(captions: Sequence[str], weights: Sequence[Sequence[float]]) -> str:
    """Return HTML with a row of boxes below each caption, the darker the larger the weight."""
    box = '<span style="flex:none;width:64px;margin:2px;text-align:center;'
    box += 'color:{};background:rgba(59,110,165,{:.2f})">'
    found = []
    for caption, row in zip(captions, weights, strict=True):
        boxes = (box.format("white" if w > 0.6 else "black", w) + f"{w:.2f}</span>" for w in row)
        found.append(f'<div>{escape(caption)}</div><div style="display:flex">{"".join(boxes)}</div>')
    return f'<div style="background:white;color:black">{"".join(found)}</div>'


def slider(panels: dict[str, str], start: int, head: str = "") -> str:
    """Return HTML with a slider that shows one of `panels`, {label: HTML}, at first number `start`,
    below `head`.

    It needs no server. A viewer that runs no scripts shows panel `start` alone.
    """
    script = (
        "const all = this.parentElement.querySelectorAll('section');"
        "all.forEach((one, at) => { one.style.display = at == this.value ? '' : 'none' })"
    )
    shown = "".join(
        f'<section style="display:{"" if at == start else "none"}"><b>{escape(label)}</b>{content}</section>'
        for at, (label, content) in enumerate(panels.items())
    )
    ends = f'aria-label="setting" min="0" max="{len(panels) - 1}" value="{start}" style="width:20em"'
    return f'<div><input type="range" {ends} oninput="{script}">{head}{shown}</div>'


def spans(measured: Sequence[float], sign: str = "") -> str:
    """Return (value, low, high) as `18.9 [17.6, 20.3]`; with the sign "+" also positive ones get it."""
    value, low, high = (f"{round(one, 1) + 0.0:{sign}.1f}" for one in measured)  # −0.0 becomes 0.0
    return f"{value} [{low}, {high}]"


def dots(axis: Axes, found: dict[str, dict[str, Sequence[float]]], title: str) -> None:
    """Draw {model: {what: (value, low, high)}} with intervals, one group of marks for each `what`."""
    for at, (name, measured) in enumerate(found.items()):
        middle, low, high = np.array(list(measured.values())).T
        places = np.arange(len(middle)) + (at - (len(found) - 1) / 2) / 6
        style = {"linestyle": "none", "capsize": 2, "label": name} | LOOK[name]
        axis.errorbar(places, middle, [middle - low, high - middle], **style)
    axis.set(xticks=range(len(measured)), xticklabels=measured, title=title)
    axis.set_ylim(-0.03 * axis.get_ylim()[1])  # a mark at 0 is seen whole


def curves(runs: dict, kept: dict, zero: float, recall: str) -> None:
    """Draw the loss of each step of `runs`, {method: record}, and their text-to-visual `recall` on
    validation, in %, which begins at `zero`, with the study's runs of the rows `kept` as dotted lines.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
    right.axhline(zero, color=GREY, linestyle="--", label=ZERO)

    def draw(history: list[dict], **look) -> None:
        ends = np.cumsum([entry["steps"] for entry in history]).tolist()
        measured = [entry.get("validation", {}).get("text_to_visual", {}) for entry in history]
        right.plot([0, *ends], [zero, *(one.get(recall, float("nan")) for one in measured)], **look)

    for method, record in runs.items():
        steps, losses, _ = zip(*(point for entry in record.history for point in entry["curve"]), strict=True)
        left.plot(steps, losses, color=LOOK[method]["color"])
        draw(record.history, label=f"{method}, this run", **LOOK[method])
    for method in [method for method in (OURS, FULL) if method in kept]:
        look = {"color": LOOK[method]["color"], "linewidth": 1, "linestyle": ":"}
        for at, run in enumerate(kept[method].records.values()):
            draw(run["history"], label="" if at else f"{method}, recorded", **look)
    left.set(title="your run: loss in training", xlabel="step", ylim=(0, None))
    right.set(title=f"{recall} on validation, in %", xlabel="step", ylim=(0, None))
    right.legend(fontsize=8)


def over_tau(recalls: dict[str, dict[float, Sequence[float]]], tau: float) -> None:
    """Draw {captions: {τ: (R@10 in %, low, high)}} over τ, with a dotted line at `tau`."""
    figure, axis = plt.subplots(figsize=(7, 3), layout="constrained")
    looks = (("black", "o", "-", 0.93), (ORANGE, "v", "--", 1.07))  # their marks stand side by side
    for (label, found), (colour, marker, line, aside) in zip(recalls.items(), looks, strict=False):
        middle, low, high = np.array([found[t] for t in sorted(found)]).T
        style = {"color": colour, "marker": marker, "linestyle": line, "capsize": 3, "label": label}
        axis.errorbar(aside * np.array(sorted(found)), middle, [middle - low, high - middle], **style)
    axis.axvline(tau, color="black", linewidth=1, linestyle=":")
    axis.set(xscale="log", xlabel="τ (small: one frame; large: the mean)", ylabel="R@10 in %", ylim=(0, None))
    axis.legend(loc="lower left")


def before_and_after(test_set: RetrievalDataset, before: tuple, after: tuple, chosen: dict) -> None:
    """Draw captions with their own picture and the one that came first with two models, each given
    as (ranks [T], first answers [T]). `chosen` is {heading: numbers of captions}, four in a column.
    """
    heads = {numbers[0]: head for head, numbers in chosen.items()}
    figure, axes = plt.subplots(4, 8, figsize=(12, 6.4), width_ratios=[1.8, 1, 1, 1] * 2, dpi=80)
    for place, text in enumerate(text for numbers in chosen.values() for text in numbers):
        own = test_set.text_to_item[text].item()
        words, *pictures = axes[place % 4, 4 * (place // 4) :][:4]
        words.axis("off")
        caption = textwrap.fill(test_set.captions[text], 20)
        words.text(1, 0.5, caption, fontsize=9, va="center", ha="right", parse_math=False)
        words.set_title(heads.get(text, ""), fontsize=10, weight="bold")
        found = {f"zero-shot: {before[0][text]}": before[1], f"adapter: {after[0][text]}": after[1]}
        items = {"own": own} | {title: first[text].item() for title, first in found.items()}
        for cell, (title, at) in zip(pictures, items.items(), strict=True):
            cell.imshow(Image.open(test_set.path(test_set.items[at])).resize((96, 96)))
            cell.set(xticks=[], yticks=[])
            cell.set_title(title, fontsize=9)
            for spine in cell.spines.values():
                spine.set(visible=at == own and title != "own", color=ORANGE, linewidth=3)
    figure.set_layout_engine("constrained")


def recorded(folder: Path, train_set: RetrievalDataset, usual_backbone: bool) -> dict:
    """Return the study's rows of a dataset, {method: row}; of an offline benchmark those of its
    current pictures. Empty with another backbone than the recipe's.
    """
    from experiments import rows, study

    here = study.world_of(train_set.folder) if usual_backbone else None
    found = [row for row in rows.read_rows(folder) if row.dataset == train_set.name]
    return {row.method: row for row in found if row.ranks and row.world == here}


def recall_and_gain(row: object, zero: object, k: int = 1, way: str = "text_to_visual") -> tuple:
    """Return ((recall in %, low, high), "") of a row and ((its difference to zero-shot, …), "+")."""
    from experiments import rows

    return (rows.recall(row, way, k), ""), (rows.difference(row, zero, way, k)[:3], "+")


def gains(ranks: dict[str, Tensor], owner: Tensor, how: dict[str, str], kept: dict, k: int = 1) -> list:
    """Return the lines of a table in Markdown: R@k of models, by the ranks [T] of the same captions,
    then that of the study's rows `kept`, and what each adds to zero-shot. `how` says how one was trained.
    """
    recall = f"R@{k}"
    lines = [f"| | trained | {recall} in % | minus zero-shot, points |", "|:--|:--|--:|--:|"]
    for name, found in ranks.items():
        reached = metrics.summary(found)[recall], *metrics.bootstrap_interval(found, owner, recall)
        gain = metrics.bootstrap_difference(found, ranks[ZERO], owner, recall)
        cells = how.get(name, "–"), spans(reached), "–" if name == ZERO else spans(gain, "+")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for name in (OURS, TWIN, LORA, FULL) if ZERO in kept else ():
        if name in kept and not kept[name].marks():
            trained = f"recorded, epochs: {kept[name].budget['epochs']}, seeds: {len(kept[name].ranks)}"
            reached, gain = (spans(one, sign) for one, sign in recall_and_gain(kept[name], kept[ZERO], k))
            lines.append(f"| {name} | {trained} | {reached} | {gain} |")
    return lines


def kinds_of(test_set: RetrievalDataset, first: list[int]) -> list[str] | None:
    """Return the kind, one of `KINDS`, of the item that came first for each caption, by what the
    offline benchmark recorded; None for another dataset.
    """
    media = test_set.folder / "media"
    if not (media / RECORDS).exists():
        return None
    known = read_pictures(media)
    pictures = [known[item.id] for item in test_set.items]
    claims = [caption for picture in pictures for caption in picture.captions]
    owners = test_set.text_to_item.tolist()
    answers = zip(claims, owners, first, strict=True)
    return ["right" if own == at else _kind(claim, pictures[at].scene) for claim, own, at in answers]


def _kind(claim: object, scene: object) -> str:
    counts = {group.code: group.count for group in scene.groups}
    there = [code in counts for code, _ in claim.things]
    if not all(there):
        return "some of the things" if any(there) else "other things"
    if any(count not in (None, counts[code]) for code, count in claim.things):
        return "another count"
    if scene.ground not in claim.grounds:
        return "another background"
    return "true, too" if claim.is_true_of(scene) else "another place or size"


def few_pairs(contrasts: RetrievalDataset, pairs: int) -> tuple[RetrievalDataset, np.ndarray]:
    """Return the first `pairs` pairs of each kind of contrast pairs, and the kind [P] of each pair.

    The records name the kind: their ids are such as `places-017-a`, in the order of the items. What
    they call `ground` is the background.
    """
    records = [one["id"] for _, one in read_jsonl(contrasts.folder / "media" / "records.jsonl", dict)]
    kinds = [id.partition("-")[0] for id in records[::2]]
    kinds = np.array(["background" if kind == "ground" else kind for kind in kinds])
    few = [pair for kind in dict.fromkeys(kinds) for pair in np.flatnonzero(kinds == kind)[:pairs]]
    items = tuple(contrasts.items[2 * pair + one] for pair in few for one in (0, 1))
    return replace(contrasts, items=items), kinds[few]


def run_name(base: str, given: dict, usual: dict) -> str:
    """Return a folder name: `base`, then what is not as usual, as in `base,epochs=20,seed=7`.

    Equal settings give equal names, in any order of `given`, and other settings other names.
    Characters that do not belong in a folder name become "-", and long settings are cut; then a
    digest of all is added.
    """
    differing = [(key, str(given[key])) for key in sorted(given) if given[key] != usual.get(key)]
    exact = ",".join([base, *(f"{key}={value}" for key, value in differing)])
    words = [f"{key}={re.sub(r'[^A-Za-z0-9_.+-]', '-', value)}" for key, value in differing]
    name = ",".join([base, ",".join(words)[:120].rstrip(".")]) if words else base
    if name == exact:
        return name
    return f"{name},{hashlib.sha256(repr(differing).encode()).hexdigest()[:8]}"


def name_by_recipe(settings: Recipe, base: str, config: TrainConfig, backbone: str) -> str:
    """Return `run_name`: `base` alone for the settings and the backbone of a recipe."""
    none = {*NO_EFFECT, *WHERE}
    given = {key: value for key, value in asdict(config).items() if key not in none}
    usual = asdict(settings.config) | {"backbone": settings.backbone}
    return run_name(base, given | {"backbone": backbone}, usual)


def embedded(gallery: explorer.Gallery, adapter: str | None = None) -> training.Embeddings:
    """Return `training.encode` of a gallery's split by one adapter, or by CLIP.

    What an earlier notebook has embedded is read: the media from the gallery's index, and the
    captions from a file beside it, whose name depends on the weights and the texts. In bfloat16 all
    is embedded here. Raises MediaError that names a file that cannot be read.
    """
    model, split, config = gallery.model, gallery.source, gallery.config
    if config.precision == "bf16":
        with model.using(adapter):
            return training.encode(model, split, config)
    with redirect_stdout(None):  # how many are new depends on what ran before
        index = gallery.index(adapter)
    for name, reason in index.skipped:
        raise MediaError(f"{split.folder / name}: {reason}")

    about = repr((index.weights.digests, training.digest(split), config.max_words))
    kept = gallery.folder / f"texts-{hashlib.sha256(about.encode()).hexdigest()[:16]}.safetensors"
    ids, cut = model.tokenize(split.captions, config.max_words)
    if not kept.exists():
        with model.using(adapter):
            text = model.family.comparable(model.encode_text(ids)).float().cpu()
        write_whole(kept, save({"text": text}))
        files = sorted(gallery.folder.glob("texts-*"), key=lambda file: file.stat().st_mtime_ns)
        for old in files[:-KEPT]:
            old.unlink()
    text = load(kept.read_bytes())["text"]

    frames = index.frames().split(index.lengths.tolist())
    places = {file.id: place for place, file in enumerate(index.files)}
    frames = [frames[places[item.id]] for item in split.items]
    mask = pad_sequence([torch.ones(len(one), dtype=torch.long) for one in frames], True)
    return training.Embeddings(text, pad_sequence(frames, True), mask, split.text_to_item, cut)


def trained_on(
    train_set: RetrievalDataset, settings: Recipe, config: TrainConfig, train_items: int | None
) -> RetrievalDataset:
    """Return what notebooks 03 and 04 train on: `train_items` of the items, or by default all.

    By default, one epoch of an offline benchmark takes half of them, so that it is short, unless
    `config.eval_items` says that there are few.
    """
    short = settings.backbone == "mini" and config.epochs == 1 and config.eval_items is None
    return train_set.subset(train_items or (len(train_set) // 2 if short else None), config.seed)


def chance_recall(dataset: RetrievalDataset, k: int = 1) -> float:
    """R@k in % of a model that guesses, text-to-image or text-to-video."""
    return 100 * min(k, len(dataset)) / len(dataset)


def recall_ceiling(dataset: RetrievalDataset) -> float:
    """The highest R@1 in % that text-to-image or text-to-video retrieval can reach.

    Of the items that have the same caption, word for word, only one can come first.
    """
    dataset.require_captions()
    owners = defaultdict(Counter)  # by caption: how often each item has it
    for item in dataset.items:
        for caption in item.captions:
            owners[tuple(caption.lower().split())][item.id] += 1  # as the tokenizer reads it
    return 100 * sum(max(counts.values()) for counts in owners.values()) / len(dataset.captions)


def repository() -> Path:
    """Return the root of the repository that the notebook is in."""
    here = Path.cwd()
    return next(p for p in (here, *here.parents) if (p / "pyproject.toml").exists())


def small_figures() -> None:
    """Let figures be JPEG: where there are many pictures, that is a tenth of the bytes of a PNG."""
    set_matplotlib_formats("jpeg", pil_kwargs={"quality": 85})


def loads(model: cma.RetrievalModel, folder: Path, label: str) -> bool:
    """Load the adapter of a folder under a label; returns whether there is one that fits the
    backbone; then it acts. Prints the folder, and of one that does not fit the reason.
    """
    shown = folder.relative_to(repository()) if folder.is_relative_to(repository()) else folder.name
    if label in model.adapters:  # of an earlier run of the cell
        model.remove_adapter(label)
    try:
        model.load_adapter(folder, label, strict=True)
    except FileNotFoundError:
        return False
    except ValueError as error:
        print(f"{shown} is skipped: {str(error).partition(': ')[2]}")
        return False
    print(f"{label}: {shown}")
    return True


def recorded_folder(dataset: str) -> Path:
    """Return where `results` has the recorded adapter of a benchmark, if there is one."""
    return repository() / "results" / "methods" / f"{dataset}-cross-modal-adapter"


def recorded_adapter(model: cma.RetrievalModel, dataset: RetrievalDataset) -> str | None:
    """Load the adapter that `results` has for a benchmark; returns its name in the model.

    None if there is no record, or if it was trained on another backbone. It does not act yet. It
    has the name that 03, 04 and 05 give it, so that they read the same index.
    """
    label = f"adapter for {dataset.kind}s"
    with redirect_stdout(None):
        there = loads(model, recorded_folder(dataset.name), label)
    model.set_adapter(None)
    return label if there else None


def ranked_rows(title: str, rows: Mapping[str, Sequence[tuple[Image.Image, str, bool]]]) -> Figure:
    """Draw rows of pictures by their labels, each with a text below; those marked True are framed."""
    texts = [textwrap.wrap(text, 24) for row in rows.values() for _, text, _ in row]
    columns, lines = max(map(len, rows.values())), max(map(len, texts))
    figure, axes = plt.subplots(
        len(rows),
        columns,
        figsize=(1.7 * columns, len(rows) * (1.65 + 0.16 * lines) + 0.35 * bool(title)),
        squeeze=False,
        layout="constrained",
    )
    for axis, text in zip(axes.flat, texts, strict=False):
        axis.set_xlabel("\n".join(text), fontsize=8, parse_math=False)
    for line, (label, row) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(label, fontsize=9)
        for axis, (picture, _, framed) in zip(line, row, strict=False):
            axis.imshow(picture)
            axis.set(xticks=[], yticks=[])
            for spine in axis.spines.values():
                spine.set(visible=framed, color=ORANGE, linewidth=3)
    figure.suptitle(title, fontsize=10, parse_math=False)
    return figure


def records_of(dataset: RetrievalDataset) -> list[Picture]:
    """What each picture of a benchmark shows, all splits; empty where nobody has recorded it."""
    file = dataset.folder / "media" / RECORDS
    if dataset.kind != "image" or not file.exists():
        return []
    return [record for _, record in read_jsonl(file, Picture)]


def shown_in(images: RetrievalDataset) -> list[tuple[str, set, set]]:
    """Return (what, those of the test, those of training): things, drawings, and pairs of things.

    Empty where nobody has recorded what the pictures show, and without a training split.
    """
    seen = {split: (set(), set(), set()) for split in ("test", "train")}
    for record in (record for record in records_of(images) if record.split in seen):
        things, drawings, pairs = seen[record.split]
        codes = sorted(group.code for group in record.scene.groups)
        things.update(codes)
        drawings.update((group.code, group.style) for group in record.scene.groups)
        pairs.update(combinations(codes, 2))
    names = ("things", "drawings of things", "pairs of things")
    return list(zip(names, seen["test"], seen["train"], strict=True)) if seen["train"][0] else []


def ceiling_of_pictures(images: RetrievalDataset) -> float | None:
    """The R@1 in % of a reader who understands every caption; None without records."""
    recorded = {record.id: record for record in records_of(images)}
    about = [recorded[item.id] for item in images.items if recorded]
    return ceiling([one.captions for one in about], [one.scene for one in about]) if about else None
