"""The annotation files of a rehearsal, each benchmark's in its own format, with its own splits."""

import csv
import io
import json
import pickle
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from cma.files import write_whole
from data_prep.benchmarks import didemo, msrvtt, vatex
from data_prep.dataset import SPLITS
from data_prep.rehearsal.shots import Shot

OFFICIAL = (("train", 6_513), ("validate", msrvtt.VALIDATE), ("test", 2_990))  # MSR-VTT's own division


class Made(NamedTuple):
    """One item of a rehearsal: `file` is relative to the source, `names` are those of what it shows."""

    number: int
    id: str
    file: str
    split: str
    captions: tuple[str, ...]
    names: tuple[str, ...]
    figures: tuple[Path, ...] = ()
    shots: tuple[Shot, ...] = ()

    @property
    def seconds(self) -> int:
        """The length of a clip."""
        return sum(shot.seconds for shot in self.shots)


def write_annotations(name: str, folder: Path, items: Sequence[Made]) -> None:
    """Write the annotation files of the benchmark `name`, each whole or not at all."""
    WRITERS[name](folder, items)


def _karpathy(file: str) -> Callable[[Path, Sequence[Made]], None]:
    """The writer of Karpathy's JSON, `file`; COCO's has a `filepath` and a `cocoid` too."""

    def write(folder: Path, items: Sequence[Made]) -> None:
        images, sentence = [], 0
        for item in items:
            sentences = []
            for caption in item.captions:
                tokens = caption.lower().split()
                sentences.append({"tokens": tokens, "raw": caption, "imgid": item.number, "sentid": sentence})
                sentence += 1
            parent, _, filename = item.file.rpartition("/")
            own = {"filepath": parent, "cocoid": item.number + 1} if "coco" in file else {}
            ids = [sentence["sentid"] for sentence in sentences]
            about = {"sentids": ids, "imgid": item.number, "sentences": sentences, "split": item.split}
            images.append(own | about | {"filename": filename})
        name = file.removeprefix("dataset_").removesuffix(".json")
        _json(folder / file, {"images": images, "dataset": name})

    return write


def _msrvtt(folder: Path, items: Sequence[Made]) -> None:
    divided = _official(len(items))
    videos = [
        {
            "category": item.number % 20,
            "url": "",
            "video_id": item.id,
            "start time": 0.0,
            "end time": float(item.seconds),
            "split": division,
            "id": item.number,
        }
        for item, division in zip(items, divided, strict=True)
    ]
    captions = [(item.id, caption) for item in items for caption in item.captions]
    sentences = [
        {"caption": caption, "video_id": id, "sen_id": number}
        for number, (id, caption) in enumerate(captions)
    ]
    _json(folder / msrvtt.DATA, {"info": {"year": "2016"}, "videos": videos, "sentences": sentences})
    tests = [item for item in items if item.split == "test"]
    lists = {
        "MSRVTT_train.9k.csv": [item for item in items if item.split == "train"],
        "MSRVTT_train.7k.csv": [
            item for item, division in zip(items, divided, strict=True) if division != "test"
        ],
    }
    for file, chosen in lists.items():
        _csv(folder / file, [("video_id",), *((item.id,) for item in chosen)])
    rows = [(f"ret{n}", f"msr{item.number}", item.id, item.captions[0]) for n, item in enumerate(tests)]
    _csv(folder / msrvtt.TEST_LIST, [("key", "vid_key", "video_id", "sentence"), *rows])


def _official(count: int) -> list[str]:
    """MSR-VTT's own word for the split of each of `count` clips, in the published proportions."""
    ends, total = [], 0
    for word, published in OFFICIAL:
        total += published
        ends.append((word, total * count // 10_000))
    return [next(word for word, end in ends if number < end) for number in range(count)]


def _msvd(folder: Path, items: Sequence[Made]) -> None:
    words = {item.id: [caption.lower().split() for caption in item.captions] for item in items}
    write_whole(folder / "raw-captions.pkl", pickle.dumps(words))
    _lists(folder, items)


def _vatex(folder: Path, items: Sequence[Made]) -> None:
    """The official validation file holds the clips of val and test, which the lists divide."""
    for file, splits in (("training", ("train",)), ("validation", ("val", "test"))):
        rows = [
            {"videoID": item.id, "enCap": item.captions, "chCap": []}
            for item in items
            if item.split in splits
        ]
        _json(folder / f"vatex_{file}_v1.0.json", rows)
    _lists(folder, items, vatex.LIST)


def _didemo(folder: Path, items: Sequence[Made]) -> None:
    for split in SPLITS:
        rows = []
        for item in _of(items, split):
            segments = -(-item.seconds // 5)
            for caption in item.captions:
                segment = len(rows) % segments
                row = {"num_segments": segments, "description": caption, "dl_link": "https://example.org/"}
                rows.append(
                    row | {"times": [[segment] * 2] * 4, "video": item.id, "annotation_id": len(rows)}
                )
        _json(folder / didemo.DATA.format(split), rows)
    _lists(folder, items, didemo.LIST)


def _activitynet(folder: Path, items: Sequence[Made]) -> None:
    """Sentences begin with a space, as most do there; `val_2.json` is about the videos of `val_1.json`."""
    for file, split in (("train.json", "train"), ("val_1.json", "test"), ("val_2.json", "test")):
        videos = {}
        for item in _of(items, split):
            captions = item.captions[::-1] if file == "val_2.json" else item.captions
            part = item.seconds / len(captions)
            times = [[round(part * n, 2), round(part * (n + 1), 2)] for n in range(len(captions))]
            texts = [f" {caption[0].upper()}{caption[1:]}. " for caption in captions]
            videos[item.id] = {"duration": float(item.seconds), "timestamps": times, "sentences": texts}
        _json(folder / file, videos)
    for file, split in (("train_ids.json", "train"), ("val_ids.json", "test")):
        _json(folder / file, [item.id for item in _of(items, split)])


def _of(items: Iterable[Made], split: str) -> list[Made]:
    return [item for item in items if item.split == split]


def _lists(folder: Path, items: Sequence[Made], name: str = "{}_list.txt") -> None:
    for split in SPLITS:
        write_whole(folder / name.format(split), "".join(f"{item.id}\n" for item in _of(items, split)))


def _json(path: Path, content: object) -> None:
    write_whole(path, json.dumps(content, ensure_ascii=False))


def _csv(path: Path, rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_whole(path, text.getvalue())


WRITERS: dict[str, Callable[[Path, Sequence[Made]], None]] = {
    "flickr30k": _karpathy("dataset_flickr30k.json"),
    "coco": _karpathy("dataset_coco.json"),
    "rsicd": _karpathy("dataset_rsicd.json"),
    "rsitmd": _karpathy("dataset_RSITMD.json"),
    "msrvtt": _msrvtt,
    "msvd": _msvd,
    "vatex": _vatex,
    "didemo": _didemo,
    "activitynet": _activitynet,
}
