"""One user's session: it answers the front end's messages about the galleries, or refuses them.

`MESSAGES.md` lists the messages. A notebook's widget and each tab of the page have one session.
"""

import hashlib
import os
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import cast
from weakref import WeakSet

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from cma import RetrievalModel
from cma.backbone import PHOTOGRAPHS
from cma.media import shown_name
from explorer.index import SUFFIXES, MediaFile, MediaIndex, Where

from . import answers, browse, facts, pictures, playing
from .attention import crop_box
from .beside import Quote
from .gallery import ZERO_SHOT, Gallery, backbone_text
from .growth import Growth
from .transfer import MAX_MEGABYTES, Arrivals, copy_into
from .work import Task, worker

# strengths of an adapter: 0 is CLIP, 1 the adapter as trained
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
# the most hits, previews and list entries of a message; the most characters of a text
MAX_HITS, MAX_THUMBS, MAX_LISTED, MAX_TEXT = 200, 24, 50, 500
MAX_FOUND = 4  # searches whose results are kept, because one widget may be shown more than once
READERS = ThreadPoolExecutor(2, "cma-previews")  # for all sessions of a process
PLAYERS = ThreadPoolExecutor(1, "cma-clips")
HEADERS = ThreadPoolExecutor(8, "cma-headers")
# what to do where `mini` is asked about one's own media
FETCH = f"; `hf download {PHOTOGRAPHS}`, then start again, searches photographs"
LATE = 0.5  # seconds for which results wait for the shapes of their files
OURS = "search", "missed", "why"  # a newer request of one of these cancels older ones

# a message of the front end: what to "do", and the "id" of the search that it belongs to
Wanted = dict


@dataclass(frozen=True)
class Found:
    """One model's answer, and what the messages about it need.

    The query's embedding [D] (if there are clips), the items found by name, whether the answer
    only lists the newest, and by path the quotes from texts by which media were found.
    """

    answer: answers.Answer
    vector: Tensor | None = None
    named: frozenset[int] = frozenset()
    newest: bool = False
    quotes: Mapping[str, Quote] = field(default_factory=dict)

    def file(self, item: int) -> tuple[Path, MediaFile]:
        """The path and the record of an item."""
        index = self.answer.index
        file = index.files[item]
        return index.path(file), file

    def times(self, item: int) -> list[float] | None:
        """The times (seconds) of the frames of a clip that were compared; None if unknown."""
        index, (path, file) = self.answer.index, self.file(item)
        if file.kind == "image":
            return None
        return playing.times(path, file, index.length(item), index.config)

    def moment(self, item: int) -> float | None:
        """The time in seconds of the frame of a clip that fits the query best.

        It is that of the subtitle if one was found, and None for a picture, a folder of frames, or
        without a query.
        """
        file = self.file(item)[1]
        quote = self.quotes.get(file.media) if file.kind == "video" else None
        if quote and quote.second is not None:
            return quote.second
        if self.vector is None or (times := self.times(item)) is None:
            return None
        frames = self.answer.index.frames(item).float()
        if not self.answer.query:  # a picture is compared by cosine
            frames = F.normalize(frames, dim=1)
        return times[int((frames @ self.vector).argmax())]

    def strip(self, item: int) -> list[tuple[float, float | None]]:
        """The times (seconds) of all compared frames of an item's clip, with their cosines to the
        query (None without one); empty if the times are unknown.
        """
        index = self.answer.index
        clips = index.column("clip")
        items = np.flatnonzero(clips == clips[item]).tolist() if clips[item] else [item]
        found: dict[float, float | None] = {}
        for one in items:
            if (times := self.times(one)) is None:
                return []
            if self.vector is None:
                found |= dict.fromkeys(times)
            else:
                cosines = F.cosine_similarity(index.frames(one).float(), self.vector[None])
                found |= dict(zip(times, cosines.tolist(), strict=True))
        return sorted(found.items())


Columns = dict[str, Found]  # the answers to a query, by the labels of the models


class Session:
    """Answers one front end about galleries by their names; `send` takes (content, buffers).

    It sends `k` results of each model at a time. `on_page`: the page runs on this computer, so it
    can open files and show them in their folders. `at_once`: answer from what is embedded so far
    (`Gallery.start`). Raises ValueError without galleries, or for k
    outside 1 to `MAX_HITS`.
    """

    def __init__(
        self,
        galleries: Mapping[str, Gallery],
        query: str = "",
        k: int = 60,
        send: Callable = lambda content, buffers=None: None,
        on_page: bool = False,
        at_once: bool = False,
    ) -> None:
        if not galleries:
            raise ValueError("no galleries were given; expected at least one, by its name")
        if not 1 <= k <= MAX_HITS:
            raise ValueError(f"k={k}: expected at least one result and at most {MAX_HITS}")
        self.galleries, self.k, self.send = dict(galleries), k, send
        self.at_once = at_once
        self.opened: dict[str, Path] = {}  # the files that were shown large, by number
        self._found: dict[int, Columns] = {}  # by the ids of the last searches
        self._arrivals = Arrivals()
        self._tasks: WeakSet[Task] = WeakSet()  # waiting or running
        self._playing: Wanted | None = None  # the part of a clip being prepared
        worker()  # start it here, so that it counts the cell that makes the first explorer
        self.setup = {
            "media": list(galleries),
            "query": query,
            "suffixes": list(SUFFIXES),
            "megabytes": MAX_MEGABYTES,
            "strengths": list(STRENGTHS),
            "page": on_page,
            "texts": True,
        }

    def receive(self, wanted: Wanted, buffers: Sequence[memoryview] = ()) -> None:
        """Handle a message without waiting; a single thread does all work with the model."""
        do = wanted["do"]
        if do in (*OURS, "cancel"):
            for task in list(self._tasks):
                unwanted = task.name == "why" if do == "why" else task.name in OURS
                task.cancelled |= unwanted or do == "cancel"
        if do in ("media", "more", *OURS):
            model, job = self.galleries[wanted["media"]].model, partial(self._guarded, wanted)
            self._tasks.add(task := Task(do, model, job, partial(self._report, wanted)))
            task.report(0, 0)
            worker().thread.submit(task.run)
        elif do in ("thumbs", "open", "moments", "copy", "reveal"):
            READERS.submit(self._guarded, wanted, buffers)
        elif do == "clip":
            self._playing = wanted
            PLAYERS.submit(self._guarded, wanted, buffers)
        elif do == "stop":  # the large view was closed
            self._playing = None
        elif do == "file":
            self._guarded(wanted, buffers)
        elif do == "ping":
            self.send({"is": "pong", **wanted})

    def close(self) -> None:
        """Stop all work and forget everything, when the page is closed."""
        self.receive({"do": "cancel"})
        self.send = lambda content, buffers=None: None
        self._playing = None
        self._found, self._arrivals, self.opened = {}, Arrivals(), {}

    def _report(self, wanted: Wanted, done: int, total: int) -> None:
        waits = worker().cells > 0
        self.send({"is": "progress", **wanted, "done": done, "total": total, "waits": waits})

    def _guarded(self, wanted: Wanted, given: object) -> None:
        """Handle a request, or send its error in one line; ignore requests about an old search."""
        try:
            new = wanted["do"] in ("media", "search", "missed", "file")
            if (about := given if new else self._found.get(wanted["id"])) is not None:
                getattr(self, f"_{wanted['do']}")(wanted, about)
        except Exception as error:
            text = " ".join((str(error) or type(error).__name__).split())
            for name, (file, _) in self._arrivals.kept.items():
                text = text.replace(file.media, name)
            self.send({**wanted, "is": "error", "text": text[:MAX_TEXT]})

    # ---- with the model

    def _media(self, wanted: Wanted, _: Task) -> None:
        """Send the choices that a gallery offers; unless `at_once`, a new one is embedded first."""
        gallery = self.galleries[wanted["media"]]
        if self.at_once:
            gallery.start()
        self.send({"is": "media", **wanted, **self._offer(gallery)})
        if gallery.growth:
            gallery.growth.listeners.add(self)
            self.grown(gallery.growth, False)

    def grown(self, growth: Growth, fresh: bool) -> None:
        """Send how much of a gallery is embedded; `fresh`: a search would now find other things."""
        name = next(name for name, one in self.galleries.items() if one is growth.gallery)
        about = {
            "done": growth.done,
            "total": growth.total,
            "seconds": growth.seconds,
            "fresh": fresh,
            "text": growth.problem,
            "offer": self._offer(growth.gallery) if fresh and growth.is_done else None,
        }
        self.send({"is": "growing", "media": name, **about})

    def _offer(self, gallery: Gallery) -> dict:
        """Return what a gallery offers to choose from."""
        index, model = gallery.shown(), gallery.model
        name, own = model.clip.config.name_or_path, gallery.watched and not gallery.adapter
        skipped = [f"{shown_name(name)}: {reason}" for name, reason in index.skipped[:MAX_LISTED]]
        kinds = [("image", "video")[kind] for kind in sorted(index.table.counts("is_clip"))]
        return {
            "items": len(index),
            "about": backbone_text(name) + (FETCH if name == "mini" and own else ""),
            "adapter": gallery.adapter,
            "adapters": [] if gallery.is_open else list(model.adapters),
            "keeps": {} if gallery.is_open else keeps(model),
            "folders": answers.folders(index),
            "years": gallery.dates().years,
            "unread": sum(_files(name) for name, _ in index.skipped),
            "kinds": kinds,
            "examples": answers.examples(index),
            "skipped": skipped,
        }

    def _search(self, wanted: Wanted, task: Task) -> None:
        """Rank the media by every model, or list the newest, and send the first results."""
        gallery = self.galleries[wanted["media"]]
        chosen = wanted["adapters"], wanted["strength"]
        pictured = []
        if wanted["text"].strip() or wanted["like"] or wanted["file"]:
            task.total = gallery.frames(*chosen)
            indexes = gallery.indexes(*chosen, so_far=True)
            first = next(iter(indexes.values()))
            like = self._like(gallery.shown(), wanted)
            quotes = gallery.texts.matching(_parts(wanted)[0]) if wanted["names"] else {}
            found = {
                label: self._ask(index, like, wanted, quotes) for label, index in indexes.items()
            }
            if like is not None:
                pictured.append(pictures.thumbnail(first.path(like), like))
        else:
            answer = browse.newest(gallery.dates(), self.k, _where(wanted))
            found = {ZERO_SHOT: Found(answer, newest=True)}
            ahead = Task("ahead", gallery.model, gallery.ask_ahead, lambda *_: None)
            worker().thread.submit(ahead.run)
        self._found = dict([*self._found.items(), (wanted["id"], found)][-MAX_FOUND:])
        self._more(wanted | {"start": 0}, found, pictured)

    def _ask(
        self,
        index: MediaIndex,
        like: MediaFile | None,
        wanted: Wanted,
        quotes: Mapping[str, Quote],
    ) -> Found:
        """Return a model's answer to a sentence (without `-words`), a picture or clip, or both."""
        text, without = _parts(wanted)
        where = _where(wanted)
        asked = index, text, self.k, like, without
        answer = answers.ask(*asked, where, folded=True)
        if wanted["order"] == "date":
            answer = browse.matching(answer)
        vector: Tensor | None = None
        named: frozenset[int] = frozenset()
        if text and wanted["names"]:
            by_name = answers.ask(*asked, replace(where, name=text), folded=True)
            named = frozenset(item for item, *_ in by_name.ranked)
            if quotes:
                by_text = answers.ask(*asked, replace(where, media=tuple(quotes)), folded=True)
                answer = browse.first(by_text, answer)
            answer = browse.first(by_name, answer)
        if wanted["order"] == "date":
            answer = browse.by_date(answer)
        if (text or like) and answer.ranked and index.column("is_clip").any():
            query = index.vector_of_text(text) if text else index.vector_of(cast(MediaFile, like))
            vector = query[0]
        return Found(answer, vector, named, quotes=quotes)

    def _like(self, index: MediaIndex, wanted: Wanted) -> MediaFile | None:
        """Return the file used as the query: one that was sent, or one of the media."""
        if not (name := wanted["like"] or wanted["file"]):
            return None
        if name == wanted["file"] and name in self._arrivals.kept:
            return self._arrivals.kept[name][0]
        if (file := index.labelled(wanted["like"])) is not None:
            return file
        raise ValueError(f"{name}: this file is no longer here; choose another, or search by words")

    def _more(self, wanted: Wanted, found: Columns, pictured: Sequence[bytes] = ()) -> None:
        """Send the next results of every model; with the first ones also the query picture."""
        columns = []
        for label, one in found.items():
            answer = one.answer
            piece = answer.piece(wanted["start"], self.k)
            files = [one.file(hit.item) for hit in piece]
            hits = []
            for hit, ratio in zip(piece, _ratios(files), strict=True):
                others = found.values() if len(found) > 1 and not answer.dated else ()
                own = {
                    "named": hit.item in one.named,
                    "quote": one.quotes.get(hit.file.media),
                    "ranks": [other.answer.rank_of.get(hit.item) for other in others],
                }
                hits.append(_hit(answer.index, hit, ratio) | own)
            about = {
                "hits": hits,
                "items": len(answer.index),
                "ranked": len(answer.ranked),
                "right": answer.right_rank,
                "label": label,
                "newest": one.newest,
                "dated": answer.dated,
                "seconds": answer.seconds,
                "cut": answer.cut,
                "foreign": answer.foreign,
            }
            columns.append(about)
        about = {"is": "hits", "id": wanted["id"], "start": wanted["start"], "columns": columns}
        self.send(about, pictured)

    def _why(self, wanted: Wanted, found: Columns) -> None:
        """Send the explanation of one result's match with a sentence."""
        one = found[wanted["column"]]
        why = answers.why(one.answer.index, one.answer.query, wanted["item"])
        weights = {
            "words": why.words,
            "weights": why.weights,
            "cosines": why.cosines,
            "times": one.times(wanted["item"]),
        }
        self.send(
            {"is": "why", **wanted, **weights}, list(map(pictures.jpeg, why.frames[:MAX_LISTED]))
        )

    def _missed(self, wanted: Wanted, task: Task) -> None:
        """Send the captions whose own picture or clip the first adapter ranks better than CLIP."""
        gallery, strength = self.galleries[wanted["media"]], wanted["strength"]
        adapter = next(filter(None, wanted["adapters"]), None)
        if adapter is None or not strength:
            raise ValueError("choose an adapter, at a strength above 0, to see what CLIP misses")
        both = gallery.index(so_far=True), gallery.index(adapter, strength, so_far=True)
        self.send({"is": "missed", **wanted, "adapter": adapter, **missed(*both)})

    # ---- with files

    def _thumbs(self, wanted: Wanted, found: Columns) -> None:
        """Send small pictures of some results; for a clip, of its best moment."""
        problems, contents = [], []
        for column, item in wanted["items"][:MAX_THUMBS]:
            path, file = found[column].file(item)
            content, problem = b"", ""
            # e.g. the file changed since it was embedded
            try:
                content = pictures.thumbnail(path, file, found[column].moment(item))
            except (ImportError, OSError, ValueError) as error:
                problem = str(error)[:MAX_TEXT]
            contents.append(content)
            problems.append(problem)
        self.send({"is": "thumbs", **wanted, "problems": problems}, contents)

    def _open(self, wanted: Wanted, found: Columns) -> None:
        """Send a result for the large view: picture, facts, and the part that the model saw."""
        one, item = found[wanted["column"]], wanted["item"]
        path, file = one.file(item)
        at = one.moment(item)
        picture = pictures.copy_of(path, file, pictures.LARGE, at)
        if at is None and (times := one.times(item)):
            at = times[0]
        processor = one.answer.index.model.processor
        seen = pictures.jpeg(picture.crop(crop_box(picture.size, processor)))
        about = {
            "captions": [one[:MAX_TEXT] for one in file.captions[:MAX_LISTED]],
            "path": shown_name(str(path)),
            "facts": facts.about(path, file),
            "at": at,
            "file": self._number(path) if self.setup["page"] and path.is_file() else None,
        }
        self.send({"is": "open", **wanted, **about}, [pictures.jpeg(picture), seen])

    def _moments(self, wanted: Wanted, found: Columns) -> None:
        """Send how well each frame of a clip fits the query, and its best moments as pictures."""
        one, item = found[wanted["column"]], wanted["item"]
        path, file = one.file(item)
        strip = one.strip(item)
        best = playing.best(strip)
        shown = [pictures.thumbnail(path, file, at) for at, _ in best]
        self.send({"is": "moments", **wanted, "strip": strip, "moments": best}, shown)

    def _number(self, path: Path) -> str:
        """Return the number under which the page may request an opened file."""
        number = hashlib.sha256(os.fsencode(path)).hexdigest()
        self.opened[number] = path
        return number

    def _clip(self, wanted: Wanted, found: Columns) -> None:
        """Send the part of a clip around a moment, in a format that the browser plays."""
        path, file = found[wanted["column"]].file(wanted["item"])
        chosen = path, file, wanted["at"], wanted["form"]
        content, start = playing.part(*chosen, lambda: self._playing is wanted)
        if self._playing is wanted:
            self.send({"is": "clip", **wanted, "start": start}, [content])

    def _copy(self, wanted: Wanted, found: Columns) -> None:
        """Copy files into a folder, never over an existing one; send how many were copied."""
        paths = sorted({found[column].file(item)[0] for column, item in wanted["items"]})
        folder = copy_into(paths, wanted["folder"])
        self.send({"is": "copy", **wanted, "count": len(paths), "into": shown_name(str(folder))})

    def _reveal(self, wanted: Wanted, found: Columns) -> None:
        """Show a file in its folder, for a page on this computer."""
        if not self.setup["page"]:
            raise ValueError("only a page on this computer can show files in their folders")
        path, _ = found[wanted["column"]].file(wanted["item"])
        folder = next(parent for parent in path.parents if parent.is_dir())  # a shard is no folder
        webbrowser.open(folder.as_uri())

    def _file(self, wanted: Wanted, buffers: Sequence[memoryview]) -> None:
        """Receive a part of a file; once the file is complete, it can be a query."""
        name = wanted["name"]
        if self._arrivals.add(name, wanted["part"], wanted["parts"], bytes(buffers[0])):
            self.send({"is": "file", "id": wanted["id"], "name": name})


def missed(before: MediaIndex, after: MediaIndex) -> dict:
    """Return how many captions (`count` `of` those compared) the second model ranks better, and the
    largest `changes`.
    """
    changes = answers.rank_changes(before, after)
    better = [one for one in changes if one.after < one.before]
    listed = [[one.caption[:MAX_TEXT], one.before, one.after] for one in better[:MAX_LISTED]]
    return {"count": len(better), "of": len(changes), "changes": listed}


def _files(name: str) -> int:
    """Return how many files an entry of `skipped` stands for: 248 for "248 .heic"."""
    number, _, suffix = name.partition(" ")
    return int(number) if number.isdecimal() and suffix.startswith(".") else 1


def keeps(model: RetrievalModel) -> dict[str, float]:
    """Return the strength that an adapter's card recommends, if it is below 1, by its name."""
    strengths = {name: model.get_adapter(name).strength for name in model.adapters}
    return {
        name: min(STRENGTHS, key=lambda step: abs(step - strength))
        for name, strength in strengths.items()
        if strength is not None and strength < 1
    }


def _parts(wanted: Wanted) -> tuple[str, list[str]]:
    """Return a request's sentence, and the `-words` to search without."""
    words = wanted["text"].split()
    without = [word[1:] for word in words if word[0] == "-" and word != "-"]
    return " ".join(word for word in words if word[0] != "-"), without


def _where(wanted: Wanted) -> Where:
    """Return a request's filter."""
    year = int(wanted["year"]) if wanted["year"] else None
    return Where(wanted["kind"] or None, wanted["folder"], year)


def _ratios(files: Sequence[tuple[Path, MediaFile]]) -> list[float]:
    """Return width divided by height of each file; 4 / 3 if reading its header takes long."""
    asked = [HEADERS.submit(pictures.ratio, *file) for file in files]
    done, late = wait(asked, LATE)
    for one in late:
        one.cancel()
    return [one.result() if one in done else 4 / 3 for one in asked]


def _hit(index: MediaIndex, hit: answers.Hit, ratio: float) -> dict:
    """Return a result as the front end expects it."""
    file, copies = hit.file, index.files[hit.alike]
    key, *alike = (str(hash((one.digest, one.key))) for one in (file, *copies))
    return {
        "rank": hit.rank,
        "item": hit.item,
        "score": hit.score,
        "right": hit.right,
        "title": pictures.title_of(file)[:MAX_TEXT],
        "file": file.label,
        "kind": file.kind,
        "ratio": ratio,
        "key": key,
        "alike": alike,
        "path": shown_name(str(index.path(file))),
        "date": file.date[:10],
        "copies": [shown_name(str(index.path(one))) for one in copies[:MAX_LISTED]],
    }
