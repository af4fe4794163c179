"""Make a dataset folder from annotations: find, check and count the media, and write it."""

import json
import shlex
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from cma.files import escapes_folder, printable, short
from data_prep import media
from data_prep.dataset import (
    CHECKED,
    MISSING,
    PICTURES,
    SPLITS,
    Annotations,
    Counts,
    Entry,
    count_of,
    count_table,
    counts_of_split,
    refuse_other_content,
    write_dataset,
    write_missing,
)
from data_prep.readers import BadInput


def prepare(
    annotations: Annotations,
    source: Path,
    out: Path,
    allow_missing: bool = False,
    check: bool = True,
    workers: int = 2,
    annotations_only: bool = False,
) -> None:
    """Write the dataset folder `out` for the media under `source`; print found / expected by split.

    With `annotations_only` we write every item with a caption without looking for media. Without
    `check` we look for media, but do not decode them.

    Items that cannot be used (no media, unreadable media, no caption) are listed in `missing.txt`.
    Unless `allow_missing`, we raise `BadInput` for them, for `faults` of the annotations, and for
    splits with other numbers of items or captions than published. A split without items is not
    compared.
    """
    _refuse_bad_entries(annotations, source)
    refuse_other_content(out, annotations.name)
    print(f"{annotations.name}: captions from {', '.join(annotations.files)}; media in {source}")
    for note in annotations.notes:
        print(f"  {printable(note)}")
    unlike = unlike_published(annotations)
    for fault in [*(f"not the published counts: {line}" for line in unlike), *annotations.faults]:
        print(f"  WARNING: {printable(fault)}")

    placed = {entry.id: entry for entry in annotations.entries}
    if annotations.packed and not annotations_only:
        source = out / PICTURES
        annotations.packed.write(source)
        annotations = replace(annotations, listed=None)
    if not annotations_only:
        placed = _place(annotations, media.MediaFiles(source, annotations.kind, annotations.listed))
    paths = {} if annotations_only else {id: source / entry.file for id, entry in placed.items()}
    parts = {id: (path, placed[id].start) for id, path in paths.items()}
    problems = media.check(parts, annotations.kind, workers, out / CHECKED) if check else {}
    problems |= {entry.id: "not found" for entry in annotations.entries if entry.id not in placed}
    counts = _count(annotations, problems, annotations_only)
    for line in count_table(counts):
        print(f"  {line}")

    if annotations.captioned:
        problems |= {entry.id: "no caption" for entry in annotations.entries if not entry.captions}
    missing = [
        (entry.id, str(paths.get(entry.id, entry.file)), problems[entry.id])
        for entry in annotations.entries
        if entry.id in problems
    ]
    write_missing(out, missing)
    used = [placed[entry.id] for entry in annotations.entries if entry.id not in problems]
    faults = [f"not the published counts: {'; '.join(unlike)} (found / expected)"] if unlike else []
    faults += annotations.faults
    if missing:
        id, file, why = missing[0]
        faults.append(
            f"{len(missing):,} of {len(annotations.entries):,} items cannot be used, the first is "
            f"{id} ({file}: {why}); all are listed in {out / MISSING}"
        )
    if faults and not (allow_missing and used):
        way_out = "" if allow_missing else ", or add --allow-missing"
        raise BadInput(f"{'. '.join(faults)}. {annotations.advice}{way_out}")
    about = {name: getattr(annotations, name) for name in ("name", "kind", "protocol", "recipe")}
    if annotations.origin:
        about["hub"] = annotations.origin
    write_dataset(out, source, used, about | {"annotations": annotations.files, "counts": counts})
    print(f"written: {out} (captions and splits; the media stay in {source})")
    own = annotations.name != annotations.recipe
    for line in [] if annotations_only else what_next(out, {entry.split for entry in used}, own):
        print(line)


def what_next(out: Path, splits: Collection[str], own: bool) -> list[str]:
    """Return lines for the user of a dataset folder: which splits are missing, and what to type."""
    if "train" not in splits:
        search = f"python -m explorer --media {shlex.quote(str(out))}"
        return ["no train split: nothing can be trained on it", f"next: {search}"]
    without = {
        "val": "a run holds out some training items to choose an epoch",
        "test": "a run reports on val, or on the items that it holds out",
    }
    lines = [f"no {split} split: {without[split]}" for split in without if split not in splits]
    run = json.dumps({"data": str(out)} | ({"few_items": True} if own else {}))
    return [*lines, f"next: write {run} into run.json, and type python -m cma.training run.json"]


def _place(annotations: Annotations, index: media.MediaFiles) -> dict[str, Entry]:
    """Return the entries whose media were found, by id, each with the right file, start and end."""
    locate = index.at if annotations.exact else index.locate
    placed = {}
    doubtful = []
    for entry in annotations.entries:
        for place in entry.places:
            if path := locate(place.file):
                file = path.relative_to(index.source).as_posix()
                placed[entry.id] = replace(entry, file=file, start=place.start, end=place.end)
                doubtful += [file] if index.is_doubtful(place.file, path) else []
                break
    for note in count_of(doubtful, "files of another extension, or one of several with that name"):
        print(f"  WARNING: check that they are the right ones: {printable(note)}")
    return placed


def _count(
    annotations: Annotations, problems: dict[str, str], annotations_only: bool
) -> dict[str, dict]:
    """Count by split: usable / published items and captions, readable / annotated media."""
    counts = {}
    for split in SPLITS:
        published = annotations.expected.get(split)
        annotated = [entry for entry in annotations.entries if entry.split == split]
        readable = [entry for entry in annotated if entry.id not in problems]
        if published or annotated:
            used = [entry for entry in readable if entry.captions or not annotations.captioned]
            found = None if annotations_only else len(readable)
            counts[split] = counts_of_split(used, published, found, len(annotated))
    return counts


def unlike_published(annotations: Annotations) -> list[str]:
    """Return the splits whose counts differ from the published ones, as found / expected."""
    unlike = []
    for split, published in annotations.expected.items():
        captions = [entry.captions for entry in annotations.entries if entry.split == split]
        found = Counts(sum(map(bool, captions)), sum(map(len, captions)))
        if captions and found != published:
            of_each = (
                f"{n:,} / {m:,} {what}"
                for what, n, m in zip(Counts._fields, found, published, strict=True)
            )
            unlike.append(f"{split} {', '.join(of_each)}")
    return unlike


def _refuse_bad_entries(annotations: Annotations, source: Path) -> None:
    """Raise `BadInput` for no entries, repeated ids, control characters, and files outside
    `source`.
    """
    where = f"{source} ({', '.join(annotations.files)})"
    if not annotations.entries:
        raise BadInput(f"{where}: no item in these files")
    repeated = [
        id for id, times in Counter(entry.id for entry in annotations.entries).items() if times > 1
    ]
    if repeated:
        raise BadInput(f"{where}: repeated ids: {len(repeated):,}, the first is {repeated[0]}")
    for entry in annotations.entries:
        if entry.id != printable(entry.id) or entry.file != printable(entry.file):
            raise BadInput(
                f"{where}: the id {short(entry.id)} ({short(entry.file)}) holds what no file name "
                "should"
            )
        for place in entry.places:
            if escapes_folder(place.file):
                raise BadInput(
                    f"{where}: the file name {short(place.file)} of {entry.id} points outside the "
                    "media folder"
                )
