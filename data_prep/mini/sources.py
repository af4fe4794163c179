"""Open artwork in the file formats of Flickr30K and MSR-VTT, as their users would have it on disk."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

from data_prep.dataset import SPLITS, Counts
from data_prep.media import parallel
from data_prep.mini.drawings import is_animated, save_clip, save_still
from data_prep.mini.emoji import Emoji, assign_splits, emoji_code, has_skin_tone, load_emoji
from data_prep.mini.packages import PINS, fetch

STILLS = "@lobehub/fluent-emoji-3d"
CLIPS = tuple(f"@lobehub/fluent-emoji-anim-{number}" for number in (1, 2, 3, 4))
DIVISIONS = {"train": "train", "val": "validate", "test": "test"}  # MSR-VTT's own words
CATEGORY = 0  # MSR-VTT numbers twenty topics; here there is one


@dataclass(frozen=True)
class Drawing:
    """One file of a package, the emoji that it shows and the split of that emoji."""

    package: str
    path: Path
    emoji: Emoji
    split: str


def select_stills(packages: tuple[str, ...]) -> list[Drawing]:
    """The drawings without skin tone, package by package in the order of their codes."""
    return [drawing for package in packages for drawing in _select(package)]


def select_clips(packages: tuple[str, ...]) -> list[Drawing]:
    """Those drawings that move; many files of the animated packages hold a single frame."""
    return [drawing for drawing in select_stills(packages) if is_animated(drawing.path)]


def count(drawings: list[Drawing], test_captions: int | None = None) -> dict[str, Counts]:
    """Items and captions of each split; test items have no more than `test_captions`."""
    counts = {}
    for split in SPLITS:
        captions = [len(drawing.emoji.captions) for drawing in drawings if drawing.split == split]
        most = test_captions if split == "test" else None
        counts[split] = Counts(len(captions), sum(min(number, most or number) for number in captions))
    return counts


def write_flickr30k(folder: Path, drawings: list[Drawing], workers: int) -> None:
    """Write `dataset_flickr30k.json` (Karpathy's format) and `flickr30k-images/<code>.jpg`."""
    images, sentence_id = [], 0
    for number, drawing in enumerate(drawings):
        captions = drawing.emoji.captions
        ids = list(range(sentence_id, sentence_id + len(captions)))
        sentence_id += len(captions)
        sentences = [
            {"tokens": caption.lower().split(), "raw": caption, "imgid": number, "sentid": id}
            for caption, id in zip(captions, ids, strict=True)
        ]
        images.append(
            {
                "sentids": ids,
                "imgid": number,
                "sentences": sentences,
                "split": drawing.split,
                "filename": f"{drawing.emoji.code}.jpg",
            }
        )
    _write_json(folder / "dataset_flickr30k.json", {"images": images, "dataset": "flickr30k"})
    media = folder / "flickr30k-images"
    media.mkdir()
    jobs = [
        (drawing.path, media / image["filename"]) for drawing, image in zip(drawings, images, strict=True)
    ]
    parallel(save_still, jobs, workers, "encode stills")


def write_msrvtt(folder: Path, drawings: list[Drawing], workers: int) -> None:
    """Write `MSRVTT_data.json`, the two lists of the 1k-A protocol and `videos/video<n>.mp4`."""
    media = folder / "videos"
    media.mkdir()
    jobs = [(drawing.path, media / f"video{number}.mp4") for number, drawing in enumerate(drawings)]
    seconds = parallel(save_clip, jobs, workers, "encode clips")
    videos, sentences = [], []
    for number, (drawing, length) in enumerate(zip(drawings, seconds, strict=True)):
        id = f"video{number}"
        videos.append(
            {
                "category": CATEGORY,
                "url": f"{drawing.package}@{PINS[drawing.package].version}/assets/{drawing.path.name}",
                "video_id": id,
                "start time": 0.0,
                "end time": length,
                "split": DIVISIONS[drawing.split],
                "id": number,
            }
        )
        for caption in drawing.emoji.captions:
            sentences.append({"caption": caption, "video_id": id, "sen_id": len(sentences)})
    _write_json(folder / "MSRVTT_data.json", {"info": {}, "videos": videos, "sentences": sentences})

    numbered = list(enumerate(drawings))
    train = [[f"video{number}"] for number, drawing in numbered if drawing.split != "test"]
    test = [(number, drawing.emoji.label) for number, drawing in numbered if drawing.split == "test"]
    test_rows = [
        [f"ret{row}", f"msr{number}", f"video{number}", label] for row, (number, label) in enumerate(test)
    ]
    _write_csv(folder / "MSRVTT_train.9k.csv", [["video_id"], *train])
    _write_csv(folder / "MSRVTT_JSFUSION_test.csv", [["key", "vid_key", "video_id", "sentence"], *test_rows])


def _select(package: str) -> list[Drawing]:
    emoji, by_code = load_emoji(), {}
    splits = assign_splits(emoji)
    for path in sorted((fetch(package) / "assets").glob("*.webp")):
        code = emoji_code(path.stem)
        if code in emoji and not has_skin_tone(code):
            by_code.setdefault(
                code, Drawing(package, path, emoji[code], splits[code])
            )  # some are there twice
    return [by_code[code] for code in sorted(by_code)]


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _write_csv(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
