"""A source folder like a benchmark's own, made file by file: a run that was stopped goes on where it was."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from cma.files import write_whole
from data_prep.benchmarks import BENCHMARKS
from data_prep.dataset import Annotations, Counts, read_object
from data_prep.media import parallel
from data_prep.readers import BadInput
from data_prep.rehearsal.annotate import Made, write_annotations
from data_prep.rehearsal.figures import Figure, save_picture, sentences
from data_prep.rehearsal.likeness import LIKENESSES, captions_of, expected, scaled
from data_prep.rehearsal.shots import LENGTHS, RATES, Shot, choose, join_shots, save_shot

BUILD = 1  # raised when what is written changes
ORDER = "order.json"  # first file of a rehearsal's folder: what is made there
SHOTS = 240  # distinct shots at most; few items need fewer
FIRST = 8  # pictures that tell the size of all
TRIED = 50  # series of shots, before a clip is like another


def make_source(name: str, items: int, out: Path, figures: Sequence[Figure], seed: int, workers: int) -> None:
    """Make `out`/source like the benchmark `name`, with `items` items that show `figures`.

    Shots of clips are kept in `out`/shots. Each file is written whole; those that are there are not made
    again. Prints media found / expected. Raises `BadInput` if the disk lacks room, or if `out` holds another
    rehearsal or other things.
    """
    splits = scaled(LIKENESSES[name].splits, items)
    _start(out, {"build": BUILD, "like": name, "items": items, "seed": seed})
    source = out / "source"
    made = lay_out(name, splits, out / "shots", figures, seed)
    if shots := list(dict.fromkeys(shot for item in made for shot in item.shots)):
        parallel(
            save_shot, [(shot, seed + number) for number, shot in enumerate(shots)], workers, "encode shots"
        )
        work, jobs = join_shots, [(source / item.file, item.shots) for item in made]
    else:
        size = LIKENESSES[name].size
        work = save_picture
        jobs = [(source / item.file, item.figures, size, seed + item.number) for item in made]
    for folder in {file.parent for file, *_ in jobs}:
        folder.mkdir(parents=True, exist_ok=True)
    left = [job for job in jobs if not job[0].exists()]
    _require_room(out, left, work)
    parallel(work, left, workers, f"make {LIKENESSES[name].kind}s")
    write_annotations(name, source, made)
    print(f"{source}: {sum(file.exists() for file, *_ in jobs):,} / {items:,} media found / expected")


def read_source(name: str, source: Path) -> Annotations:
    """What the benchmark's reader reads in a rehearsal's source; expected are the scaled counts."""
    order = read_object(source.parent / ORDER)
    if order.get("like") != name:
        raise BadInput(f"{source}: no rehearsal of {name}; make it by `python -m data_prep rehearsal`")
    options = {"split": "restval"} if name == "coco" else {}
    wanted = expected(scaled(LIKENESSES[name].splits, order["items"]))
    return replace(BENCHMARKS[name].read(source, **options), expected=wanted)


def lay_out(
    name: str, splits: dict[str, Counts], folder: Path, figures: Sequence[Figure], seed: int
) -> list[Made]:
    """What every item shows and is called; the seed and the item's number decide, not the order of work."""
    like, made, chosen, used = LIKENESSES[name], [], (), set()
    total = sum(counts.items for counts in splits.values())
    shots = _shots(like.size, folder, figures, seed, total, like.shot_suffix) if like.seconds else []
    for split, counts in splits.items():
        each = captions_of(Random(f"{seed} {split}"), counts, like.spread)
        for captions in each:
            number = len(made)
            random = Random(f"{seed} {name} {number}")
            seconds = like.seconds(random) if like.seconds else 0
            id, file = like.place(random, number, split, seconds)
            for _ in range(TRIED if seconds else 0):
                chosen = choose(random, shots, seconds)
                if chosen not in used:
                    break
            used.add(chosen)
            shown = [] if like.seconds else random.sample(list(figures), random.randint(1, 3))
            names = tuple(dict.fromkeys(one.name for one in (*chosen, *shown)))
            texts = sentences(random, names, like.per_item(random) if like.per_item else captions)
            paths = tuple(figure.path for figure in shown)
            made.append(Made(number, id, file, split, texts, names, paths, chosen))
    return made


def _shots(
    size: tuple[int, int], folder: Path, figures: Sequence[Figure], seed: int, items: int, suffix: str
) -> list[Shot]:
    """Enough shots for `items` clips, of every length at every rate."""
    kinds = [(rate, seconds) for seconds in LENGTHS for rate in RATES]
    random, shots = Random(seed), []
    for number in range(max(len(kinds), min(SHOTS, items // 2))):
        rate, seconds = kinds[number % len(kinds)]
        figure = random.choice(list(figures))
        path = folder / f"{number:03}-{size[0]}x{size[1]}-{rate}-{seconds}{suffix}"
        shots.append(Shot(path, figure.path, figure.name, rate, seconds, size))
    return shots


def _start(out: Path, order: dict) -> None:
    """Note what is made in `out`. Raises `BadInput` if it holds another rehearsal, or other things."""
    there = read_object(out / ORDER)
    if there == order:
        return
    if there:
        held = f"{there.get('items')} items like {there.get('like')} (seed {there.get('seed')})"
        raise BadInput(f"{out}: holds a rehearsal of {held}; choose another --out, or remove it")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out}: holds other things; choose a new folder as --out")
    write_whole(out / ORDER, json.dumps(order) + "\n")


def _require_room(out: Path, jobs: Sequence[tuple], work: Callable[[tuple], None]) -> None:
    """Raise `BadInput` if the media of `jobs` do not fit on the disk; the shots or the first ones tell."""
    if not jobs:
        return
    if work is join_shots:
        needed = sum(shot.path.stat().st_size for _, shots in jobs for shot in shots)
    else:
        first = jobs[:FIRST]
        for job in first:
            work(job)
        needed = len(jobs) * sum(file.stat().st_size for file, *_ in first) // len(first)
    free = shutil.disk_usage(out).free
    print(f"{out}: about {needed / 1e9:.2f} GB to write, {free / 1e9:.1f} GB free")
    if needed > free:
        raise BadInput(
            f"{out}: {needed / 1e9:.2f} GB of media are to be written, {free / 1e9:.2f} GB are free; choose "
            "an --out on another disk, or fewer --items"
        )
