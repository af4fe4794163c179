"""One person's talk with the galleries: the front end's messages are answered, or refused.

`MESSAGES.md` lists the messages. A notebook's widget and each tab of the page have one session.
"""

import hashlib
import os
import shutil
import threading
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from weakref import WeakSet

from torch import Tensor

from cma.files import printable
from cma.media import shown_name
from cma.search import SUFFIXES, MediaFile, MediaIndex

from . import answers, browse, facts, pictures, playing
from .attention import crop_box
from .gallery import ZERO_SHOT, Gallery, backbone_text
from .work import Task, worker

# strengths of an adapter: 0 is CLIP, 1 the adapter as trained
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
# most in a message; characters of a text
MOST_HITS, MOST_THUMBS, MOST_LISTED, MOST_TEXT = 200, 24, 50, 500
MOST_MEGABYTES, MOST_FILES = 200, 8  # size of a file used as a query; how many are kept
MOST_FOUND = 4  # searches whose results are kept, because one widget may be shown more than once
DATED = 1.0  # seconds for which the first list waits for the dates that cameras wrote
READERS = ThreadPoolExecutor(2, "cma-previews")  # for all sessions of a process
PLAYERS = ThreadPoolExecutor(1, "cma-clips")
OURS = "search", "missed", "why", "cost"  # a later request of one makes earlier ones unwanted

# a message of the front end: what to "do", and the "id" of the search that it belongs to
Wanted = dict


@dataclass(frozen=True)
class Found:
    """The answer of one model, the sentence's embedding [D] if there are clips, hits by name."""

    answer: answers.Answer
    vector: Tensor | None = None
    named: frozenset[int] = frozenset()

    def file(self, item: int) -> tuple[Path, MediaFile]:
        """The path and the record of an item."""
        index = self.answer.index
        file = index.files[item]
        return index.path(file), file

    def times(self, item: int) -> list[float] | None:
        """The seconds of the frames of a clip that were compared, None where they are not known."""
        index, (path, file) = self.answer.index, self.file(item)
        if file.kind == "image":
            return None
        return playing.times(path, file, int(index.lengths[item]), index.config)

    def moment(self, item: int) -> float | None:
        """The time in seconds of the frame of a clip that fits the sentence best.

        It is None for a picture, a folder of frames, or where no sentence was asked.
        """
        if self.vector is None or (times := self.times(item)) is None:
            return None
        return times[int((self.answer.index.frames(item).float() @ self.vector).argmax())]


Columns = dict[str, Found]  # the answers to a query, by the labels of the models


class Session:
    """Answers one front end about galleries by their names; `send` takes (content, buffers).

    `k` results of each model are sent at a time. `on_page`: the page is served by this computer to
    itself, so files can be opened and shown in their folders. Raises ValueError for no galleries,
    or k outside 1 to `MOST_HITS`.
    """

    def __init__(
        self,
        galleries: Mapping[str, Gallery],
        query: str = "",
        k: int = 60,
        send: Callable = lambda content, buffers=None: None,
        on_page: bool = False,
    ) -> None:
        if not galleries:
            raise ValueError("no galleries were given; expected at least one, by its name")
        if not 1 <= k <= MOST_HITS:
            raise ValueError(f"k={k}: expected at least one result and at most {MOST_HITS}")
        self.galleries, self.k, self.send = dict(galleries), k, send
        self.opened: dict[str, Path] = {}  # the files that were shown large, by number
        self._found: dict[int, Columns] = {}  # by the ids of the last searches
        self._parts: dict[str, list[bytes]] = {}  # of the file that is arriving, by name
        self._files: dict[str, tuple[TemporaryDirectory, Path]] = {}  # files that arrived, by name
        self._tasks: WeakSet[Task] = WeakSet()  # those that wait or run
        self._playing: Wanted | None = None  # the part of a clip that is wanted
        worker()  # made here, so that it counts the cell that makes the first explorer
        self.setup = {
            "media": list(galleries),
            "query": query,
            "suffixes": list(SUFFIXES),
            "megabytes": MOST_MEGABYTES,
            "strengths": list(STRENGTHS),
            "page": on_page,
        }

    def receive(self, wanted: Wanted, buffers: Sequence[memoryview] = ()) -> None:
        """Handle a message, without waiting: work with the model is done in the one thread."""
        do = wanted["do"]
        if do in (*OURS, "cancel"):
            for task in [one for one in self._tasks if do != "why" or one.name == "why"]:
                task.cancelled |= task.name in OURS or do == "cancel"
        if do in ("media", "more", *OURS):
            model, job = self.galleries[wanted["media"]].model, partial(self._guarded, wanted)
            self._tasks.add(task := Task(do, model, job, partial(self._report, wanted)))
            task.report(0, 0)
            worker().thread.submit(task.run)
        elif do in ("thumbs", "open", "copy", "reveal"):
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
        """Stop what is being done, and forget everything: the page was closed."""
        self.receive({"do": "cancel"})
        self.send = lambda content, buffers=None: None
        self._playing = None
        for one in (self._found, self._files, self._parts, self.opened):
            one.clear()

    def _report(self, wanted: Wanted, done: int, total: int) -> None:
        waits = worker().cells > 0
        self.send({"is": "progress", **wanted, "done": done, "total": total, "waits": waits})

    def _guarded(self, wanted: Wanted, given: object) -> None:
        """Do what is wanted, or send the error in one line. Requests about an old search are
        ignored.
        """
        try:
            new = wanted["do"] in ("media", "search", "missed", "file", "cost")
            if (about := given if new else self._found.get(wanted["id"])) is not None:
                getattr(self, f"_{wanted['do']}")(wanted, about)
        except Exception as error:
            text = " ".join((str(error) or type(error).__name__).split())
            for name, (_, path) in self._files.items():
                text = text.replace(str(path), name)
            self.send({**wanted, "is": "error", "text": text[:MOST_TEXT]})

    # ---- with the model

    def _media(self, wanted: Wanted, _: Task) -> None:
        """Send what there is to choose from in a gallery, which is embedded first if it is new."""
        gallery = self.galleries[wanted["media"]]
        index, model = gallery.first(), gallery.model
        skipped = [f"{shown_name(name)}: {reason}" for name, reason in index.skipped[:MOST_LISTED]]
        dates = gallery.dates()
        if not dates.known.wait(DATED):
            threading.Thread(target=self._tell, args=(dates, wanted["media"]), daemon=True).start()
        kinds = [("image", "video")[kind] for kind in index.column("is_clip").unique().tolist()]
        offer = {
            "items": len(index),
            "about": backbone_text(model.clip.config.name_or_path),
            "adapter": gallery.adapter,
            "adapters": [] if gallery.is_open else list(model.adapters),
            "folders": answers.folders(index),
            "years": _years(dates),
            "unread": len(index.skipped),
            "kinds": kinds,
            "examples": answers.examples(index),
            "skipped": skipped,
        }
        self.send({"is": "media", **wanted, **offer})

    def _tell(self, dates: facts.Dates, media: str) -> None:
        """Say that the dates are known, once they are."""
        dates.known.wait()
        self.send({"is": "dates", "media": media, "years": _years(dates)})

    def _search(self, wanted: Wanted, task: Task) -> None:
        """Rank the media by every model, or list the newest, and send the first results."""
        gallery = self.galleries[wanted["media"]]
        adapters, strength = wanted["adapters"], wanted["strength"]
        if not (wanted["text"].strip() or wanted["like"] or wanted["file"]):
            chosen = self.k, wanted["kind"], wanted["folder"], gallery.dates()
            answer = self._narrowed(wanted, browse.newest(gallery.first(), *chosen))
            found = {ZERO_SHOT: Found(answer)}
        else:
            task.total = gallery.frames(adapters, strength)
            indexes = gallery.indexes(adapters, strength)
            shown = self._shown(next(iter(indexes.values())), wanted)
            found = {label: self._ask(index, shown, wanted) for label, index in indexes.items()}
        self._found = dict([*self._found.items(), (wanted["id"], found)][-MOST_FOUND:])
        self._more(wanted | {"start": 0}, found)

    def _ask(self, index: MediaIndex, shown: answers.Query | None, wanted: Wanted) -> Found:
        """Return the answer of one model to a sentence, without its `-words`, a picture or clip
        that is `shown`, or both.
        """
        words = wanted["text"].split()
        without = [word[1:] for word in words if word[0] == "-" and word != "-"]
        query = " ".join(word for word in words if word[0] != "-")
        chosen = self.k, wanted["kind"], wanted["folder"], True
        if not query and not without:
            answer = answers.ask(index, shown, *chosen)
        elif without or shown is not None:
            answer = answers.ask(index, query, *chosen, like=shown, without=without)
        else:
            answer = answers.ask(index, query, *chosen)
        answer, named = self._narrowed(wanted, answer), frozenset()
        vector = None
        if query:
            if wanted.get("names"):
                answer, named = browse.by_name(answer, query)
            if index.column("is_clip").any():
                with index.acting():
                    encoded = index.model.encode_text([query], index.config.max_words)
                vector = index.model.family.comparable(encoded)[0].float().cpu()
        return Found(answer, vector, named)

    def _narrowed(self, wanted: Wanted, answer: answers.Answer) -> answers.Answer:
        """Keep the results of the wanted year, in the wanted order."""
        if year := wanted.get("year"):
            dates = self.galleries[wanted["media"]].dates()
            answer = browse.of_year(answer, dates, int(year))
        if wanted.get("order") == "date" and answer.query != "":
            answer = browse.by_date(answer, self.galleries[wanted["media"]].dates())
        return answer

    def _shown(self, index: MediaIndex, wanted: Wanted) -> answers.Query | None:
        """Return the file that was sent, or the one of the media, to find similar ones of."""
        if not (name := wanted["like"] or wanted["file"]):
            return None
        if wanted["file"] in self._files:
            return self._files[name][1]
        for file in index.files:
            if wanted["like"] == _name(file):
                return file
        raise ValueError(
            f"{name}: no such file is here any more; choose another, or search by words"
        )

    def _more(self, wanted: Wanted, found: Columns) -> None:
        """Send the next results of every model."""
        columns = []
        for label, one in found.items():
            answer = one.answer
            hits = [
                _hit(answer.index, hit) | {"named": hit.item in one.named}
                for hit in answer.piece(wanted["start"], self.k)
            ]
            about = {
                "hits": hits,
                "items": len(answer.index),
                "ranked": len(answer.ranked),
                "right": answer.right_rank,
                "label": label,
                "zero": label == ZERO_SHOT,
                "newest": answer.query == "",
                "seconds": answer.seconds,
                "cut": answer.cut,
            }
            columns.append(about)
        self.send({"is": "hits", "id": wanted["id"], "start": wanted["start"], "columns": columns})

    def _cost(self, wanted: Wanted, _: Task) -> None:
        """Send how many frames the models of a search have yet to embed, and for how long."""
        gallery = self.galleries[wanted["media"]]
        frames = gallery.frames(wanted["adapters"], wanted["strength"])
        seconds = frames * gallery.pace() if frames else 0
        self.send({"is": "cost", **wanted, "frames": frames, "seconds": seconds})

    def _why(self, wanted: Wanted, found: Columns) -> None:
        """Send what weighs most in the match of one result with a sentence."""
        answer = found[wanted["column"]].answer
        why = answers.why(answer.index, answer.query, wanted["item"])
        weights = {"words": why.words, "weights": why.weights, "cosines": why.cosines}
        weights["times"] = found[wanted["column"]].times(wanted["item"])
        self.send(
            {"is": "why", **wanted, **weights}, list(map(pictures.jpeg, why.frames[:MOST_LISTED]))
        )

    def _missed(self, wanted: Wanted, task: Task) -> None:
        """Send the captions whose own picture or clip the first adapter ranks better than CLIP."""
        gallery, strength = self.galleries[wanted["media"]], wanted["strength"]
        adapter = next(filter(None, wanted["adapters"]), None)
        if adapter is None or not strength:
            raise ValueError(
                "what CLIP misses is what an adapter finds: choose one, of a strength above 0"
            )
        both = gallery.index(), gallery.index(adapter, strength)
        better = [one for one in answers.rank_changes(*both) if one.after < one.before]
        listed = [[one.caption[:MOST_TEXT], one.before, one.after] for one in better[:MOST_LISTED]]
        self.send(
            {"is": "missed", **wanted, "adapter": adapter, "count": len(better), "changes": listed}
        )

    # ---- with files

    def _thumbs(self, wanted: Wanted, found: Columns) -> None:
        """Send small pictures of some results, of a clip its best moment."""
        problems, contents = [], []
        for column, item in wanted["items"][:MOST_THUMBS]:
            path, file = found[column].file(item)
            content, problem = b"", ""
            # e.g. the file changed since it was embedded
            try:
                content = pictures.thumbnail(path, file, found[column].moment(item))
            except (ImportError, OSError, ValueError) as error:
                problem = str(error)[:MOST_TEXT]
            contents.append(content)
            problems.append(problem)
        self.send({"is": "thumbs", **wanted, "problems": problems}, contents)

    def _open(self, wanted: Wanted, found: Columns) -> None:
        """Send a result at the size of the large view, what is known about it, and the part of it
        that the model saw.
        """
        one, item = found[wanted["column"]], wanted["item"]
        path, file = one.file(item)
        at = one.moment(item)
        picture = pictures.copy_of(path, file, pictures.LARGE, at)
        processor = one.answer.index.model.processor
        seen = pictures.jpeg(picture.crop(crop_box(picture.size, processor)))
        about = {
            "captions": [one[:MOST_TEXT] for one in file.captions[:MOST_LISTED]],
            "path": shown_name(str(path)),
            "facts": facts.about(path, file),
            "at": at,
            "times": one.times(item),
            "file": self._number(path) if self.setup["page"] and path.is_file() else None,
        }
        self.send({"is": "open", **wanted, **about}, [pictures.jpeg(picture), seen])

    def _number(self, path: Path) -> str:
        """Return the number by which the page may ask for a file that was shown large."""
        number = hashlib.sha256(os.fsencode(path)).hexdigest()
        self.opened[number] = path
        return number

    def _clip(self, wanted: Wanted, found: Columns) -> None:
        """Send the part of a clip around a moment in a form that the browser plays."""
        path, file = found[wanted["column"]].file(wanted["item"])
        chosen = path, file, wanted["at"], wanted["form"]
        content, start = playing.part(*chosen, lambda: self._playing is wanted)
        if self._playing is wanted:
            self.send({"is": "clip", **wanted, "start": start}, [content])

    def _copy(self, wanted: Wanted, found: Columns) -> None:
        """Copy files into a folder, never over one that is there; say how many were copied."""
        folder = Path(wanted["folder"].strip()).expanduser()
        if not wanted["folder"].strip() or not folder.is_absolute():
            raise ValueError(
                f"{wanted['folder']!r}: expected the whole path of a folder, such as ~/chosen"
            )
        folder.mkdir(parents=True, exist_ok=True)
        paths = {found[column].file(item)[0] for column, item in wanted["items"]}
        for path in sorted(paths):
            copy_into(path, folder)
        self.send({"is": "copy", **wanted, "count": len(paths), "into": shown_name(str(folder))})

    def _reveal(self, wanted: Wanted, found: Columns) -> None:
        """Show a file in its folder, on the computer that serves the page to itself."""
        if not self.setup["page"]:
            raise ValueError("only the page of this computer shows files in their folders")
        path, _ = found[wanted["column"]].file(wanted["item"])
        webbrowser.open(path.parent.as_uri())

    def _file(self, wanted: Wanted, buffers: Sequence[memoryview]) -> None:
        """Receive a part of a file; once the file is complete, it can be a query."""
        name, part, suffix = wanted["name"], wanted["part"], Path(wanted["name"]).suffix.lower()
        if suffix not in SUFFIXES:
            raise ValueError(
                f"{name}: neither picture nor clip; choose one of {', '.join(SUFFIXES)}"
            )
        parts = [*self._parts.get(name, [])[:part], bytes(buffers[0])]
        self._parts = {name: parts} if part + 1 < wanted["parts"] else {}
        if len(parts) != part + 1:
            raise ValueError(f"{name}: a part of it is missing; choose it again")
        if sum(map(len, parts)) > MOST_MEGABYTES * 1_000_000:
            raise ValueError(f"{name}: more than {MOST_MEGABYTES} MB; choose a smaller file")
        if part + 1 == wanted["parts"]:
            folder = TemporaryDirectory(prefix="cma-")  # deleted once nothing refers to it
            (path := Path(folder.name) / f"asked{suffix}").write_bytes(b"".join(parts))
            self._files = dict([*self._files.items(), (name, (folder, path))][-MOST_FILES:])
            self.send({"is": "file", "id": wanted["id"], "name": name})


def _years(dates: facts.Dates) -> list[int]:
    """The years of the media, the last one first."""
    return sorted(set(dates.years().tolist()), reverse=True)


def copy_into(path: Path, folder: Path) -> Path:
    """Copy a file or a folder of frames into a folder, whole or not at all, under a free name."""
    with TemporaryDirectory(prefix=".cma-", dir=folder) as kept:
        copied = Path(kept) / path.name
        copy = shutil.copytree if path.is_dir() else shutil.copy2
        copy(path, copied)
        for number in count(1):
            label = path.stem if number == 1 else f"{path.stem} ({number})"
            target = folder / f"{label}{path.suffix}"
            try:  # the name is taken first, so that nobody else takes it
                if path.is_dir():
                    target.mkdir()
                else:
                    target.touch(exist_ok=False)
            except FileExistsError:
                continue
            return copied.replace(target)


def _name(file: MediaFile) -> str:
    """Return a name of its own for an item: several may be parts of one file."""
    if not (file.start or file.end):
        return printable(file.media)
    return file.id or f"{printable(file.media)}#t={file.start or 0:g}"


def _hit(index: MediaIndex, hit: answers.Hit) -> dict:
    """Return a result in the form that the front end takes."""
    file, copies = hit.file, [index.files[item] for item in hit.alike]
    key, *alike = (str(hash((one.digest, one.key))) for one in (file, *copies))
    return {
        "rank": hit.rank,
        "item": hit.item,
        "score": hit.score,
        "right": hit.right,
        "title": pictures.title_of(file)[:MOST_TEXT],
        "file": _name(file),
        "kind": file.kind,
        "ratio": pictures.shape(index.path(file), file),
        "key": key,
        "alike": alike,
        "path": shown_name(str(index.path(file))),
        "moments": [index.files[item].start for item in hit.moments[:MOST_LISTED]],
        "copies": [shown_name(str(index.path(one))) for one in copies[:MOST_LISTED]],
    }
