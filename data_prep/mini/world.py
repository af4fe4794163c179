"""Compose and encode pictures and clips, and write them in the file formats of Flickr30K and
MSR-VTT.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from fractions import Fraction
from functools import cache
from pathlib import Path

from PIL import Image

from cma.files import cache_folder, read_jsonl, replacing, write_whole
from data_prep.media import one_by_one
from data_prep.mini import events
from data_prep.mini.caption_styles import Caption
from data_prep.mini.drawings import is_animated
from data_prep.mini.emoji import emoji_code
from data_prep.mini.events import FPS, POSES, Clip, Event, frames_of
from data_prep.mini.other_hand import LooseScene, loose_picture
from data_prep.mini.packages import PINS, fetch
from data_prep.mini.pictures import SEED, Picture
from data_prep.mini.scenes import Group, Scene, picture_of
from data_prep.mini.things import CONTRAST, STILL, drawing, lot

PICTURE_SIZE, CLIP_SIZE = 192, 128  # pixels
ANIMATIONS = tuple(f"@lobehub/fluent-emoji-anim-{number}" for number in (1, 2, 3, 4))
RECORDS = "records.jsonl"  # what each picture or clip shows, for looking into errors
VTT_SPLITS = {"train": "train", "val": "validate", "test": "test"}  # MSR-VTT's names
CATEGORY = 0  # MSR-VTT has twenty numbered topics; here there is one


def write_flickr30k(folder: Path, pictures: Sequence[Picture], workers: int) -> str:
    """Write `dataset_flickr30k.json` (Karpathy's format), `flickr30k-images/<id>.jpg` and the
    records.

    Returns the digest of all pixels before they are encoded.
    """
    media, images, sentence = folder / "flickr30k-images", [], 0
    media.mkdir()
    for number, picture in enumerate(pictures):
        sentences = [
            {
                "tokens": caption.text.lower().split(),
                "raw": caption.text,
                "imgid": number,
                "sentid": id,
            }
            for id, caption in enumerate(picture.captions, start=sentence)
        ]
        sentence += len(sentences)
        image = {
            "sentids": [one["sentid"] for one in sentences],
            "imgid": number,
            "sentences": sentences,
        }
        images.append(image | {"split": picture.split, "filename": f"{picture.id}.jpg"})
    _write_json(folder / "dataset_flickr30k.json", {"images": images, "dataset": "flickr30k"})
    jobs = [(picture, media / f"{picture.id}.jpg") for picture in pictures]
    digests = list(one_by_one(save_picture, jobs, workers, f"compose {folder.stem}"))
    return _write_records(folder, pictures, digests)


def write_msrvtt(folder: Path, clips: Sequence[Clip], workers: int) -> str:
    """Write `MSRVTT_data.json`, the list of 1k-A's training clips, `videos/video<n>.mp4` and the
    records.

    The test captions are written by `write_test`. Returns the digest of all pixels before they are
    encoded.
    """
    media = folder / "videos"
    videos: list[dict] = []
    sentences: list[dict] = []
    media.mkdir()
    moving = {event.code for clip in clips for event in clip.events if event.style == STILL}
    strips = list(
        one_by_one(pose_strip, sorted(moving & animations().keys()), workers, "decode animations")
    )
    for number, clip in enumerate(clips):
        id, part = f"video{number}", {"category": CATEGORY, "url": "", "start time": 0.0}
        seconds = len(events.HELD) * max(2, len(clip.events)) / FPS
        part |= {"video_id": id, "end time": seconds, "split": VTT_SPLITS[clip.split], "id": number}
        videos.append(part)
        for caption in clip.captions:
            sentences.append({"caption": caption, "video_id": id, "sen_id": len(sentences)})
    _write_json(folder / "MSRVTT_data.json", {"info": {}, "videos": videos, "sentences": sentences})
    ids = [f"video{number}" for number, clip in enumerate(clips) if clip.split != "test"]
    if ids:
        _write_csv(folder / "MSRVTT_train.9k.csv", ["video_id"], ([id] for id in ids))
    jobs = [(clip, media / f"video{number}.mp4") for number, clip in enumerate(clips)]
    digests = list(one_by_one(save_clip, jobs, workers, f"compose {folder.stem}"))
    return _write_records(folder, clips, [*digests, *strips])


def write_test(folder: Path, clips: Sequence[Clip], kind: str) -> int:
    """Write 1k-A's list of test captions, one for each clip; returns how many.

    kind: whole | moments | common (one of the two for each clip, at random). Captions are drawn at
    random.
    """
    rows: list[list[str]] = []
    for number, clip in enumerate(clips):
        if clip.split == "test":
            captions = {"whole": clip.whole, "moments": clip.moments or clip.whole}
            which = kind if kind in captions else list(captions)[lot(f"{kind} {clip.id}") < 0.5]
            caption = random.Random(f"{SEED} {which} {clip.id}").choice(captions[which])
            rows.append([f"ret{len(rows)}", f"msr{number}", f"video{number}", caption])
    _write_csv(
        folder / "MSRVTT_JSFUSION_test.csv", ["key", "vid_key", "video_id", "sentence"], rows
    )
    return len(rows)


def still(code: str, style: str, ink: str) -> Image.Image:
    """Return the drawing of a thing; only high-contrast drawings have an ink."""
    return drawing(code, style, ink if style == CONTRAST else "")


def in_motion(event: Event, ink: str, pose: int) -> Image.Image:
    """Return the drawing of an event in a pose; for three-dimensional ones, from the artist's
    animation.
    """
    if event.style == STILL and event.code in animations():
        left = pose * CLIP_SIZE
        return _strip(event.code).crop((left, 0, left + CLIP_SIZE, CLIP_SIZE))
    return still(event.code, event.style, ink)


@cache
def animations() -> dict[str, Path]:
    """Return the animated files by code."""
    found: dict[str, Path] = {}
    for package in ANIMATIONS:
        for path in sorted((fetch(package) / "assets").glob("*.webp")):
            code = emoji_code(path.stem)
            if code not in found and is_animated(path):
                found[code] = path
    return found


def _strip_file(code: str) -> Path:
    return cache_folder() / f"poses-{PINS[ANIMATIONS[0]].version}" / f"{code}.png"


@cache
def _strip(code: str) -> Image.Image:
    return Image.open(_strip_file(code)).convert("RGBA")


def pose_strip(code: str) -> str:
    """Save seven frames of an animation, side by side, in the cache; returns their digest."""
    path = _strip_file(code)
    if not path.exists():
        strip = Image.new("RGBA", (POSES * CLIP_SIZE, CLIP_SIZE))
        with Image.open(animations()[code]) as image:
            frames = getattr(image, "n_frames", 1)
            for pose in range(POSES):
                image.seek(pose * frames // POSES)
                picture = image.convert("RGBA").resize((CLIP_SIZE, CLIP_SIZE), Image.Resampling.BOX)
                strip.paste(picture, (pose * CLIP_SIZE, 0))
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            strip.save(temporary, "png")
    return hashlib.sha256(_strip(code).tobytes()).hexdigest()


def save_picture(job: tuple[Picture, Path]) -> str:
    """Compose a picture and save it as JPEG; returns the digest of its pixels."""
    record, target = job
    compose = loose_picture if isinstance(record.scene, LooseScene) else picture_of
    picture = compose(record.scene, PICTURE_SIZE, still)
    picture.save(target, quality=90)
    return hashlib.sha256(picture.tobytes()).hexdigest()


def save_clip(job: tuple[Clip, Path]) -> str:
    """Compose a clip and save it as H.264 in mp4; returns the digest of its frames' pixels."""
    import av

    record, target = job
    digest = hashlib.sha256()
    with av.open(str(target), "w") as container:
        stream = container.add_stream(
            "libx264", rate=FPS, options={"crf": "23", "preset": "veryfast"}
        )
        stream.width = stream.height = CLIP_SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        shown = 0
        for times, picture in frames_of(record, CLIP_SIZE, in_motion):
            digest.update(picture.tobytes())
            for _ in range(times):
                frame = av.VideoFrame.from_image(picture)
                frame.pts, frame.time_base, shown = shown, Fraction(1, FPS), shown + 1
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return digest.hexdigest()


def _write_records(folder: Path, records: Iterable[Picture | Clip], digests: Iterable[str]) -> str:
    lines = (
        json.dumps(asdict(record), ensure_ascii=False, default=sorted) + "\n" for record in records
    )
    write_whole(folder / RECORDS, "".join(lines))
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def read_pictures(media: Path) -> dict[str, Picture]:
    """Return the pictures of an offline benchmark by id, from the records in its media folder.

    Raises FileNotFoundError where there are no records: the dataset is no offline benchmark.
    """
    pictures = {}
    for _, record in read_jsonl(media / RECORDS, dict):
        scene = record["scene"]
        scene = Scene(**scene | {"groups": tuple(Group(**one) for one in scene["groups"])})
        captions = tuple(Caption(**one) for one in record["captions"])
        pictures[record["id"]] = Picture(record["id"], record["split"], scene, captions)
    return pictures


def _write_json(path: Path, content: object) -> None:
    write_whole(path, json.dumps(content, ensure_ascii=False))


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    write_whole(path, text.getvalue())
