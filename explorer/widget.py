"""Search pictures and clips in a notebook: `static/explorer.js` shows what `answers` finds."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from weakref import WeakSet

import anywidget
import traitlets

from cma.files import printable
from cma.media import shown_name
from cma.search import SUFFIXES, MediaIndex

from . import answers, pictures
from .attention import crop_box
from .gallery import ZERO_SHOT, Gallery, backbone_text
from .work import Task, worker

STATIC = Path(__file__).parent / "static"
# strengths of an adapter: 0 is CLIP, 1 the adapter as trained
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
# most in a message; characters of a text
MOST_HITS, MOST_THUMBS, MOST_LISTED, MOST_TEXT = 200, 24, 50, 500
MOST_MEGABYTES, MOST_FILES = 200, 8  # size of a file used as a query; how many are kept
MOST_FOUND = 4  # searches whose results are kept, because one widget may be shown more than once

Found = dict[str, answers.Answer]  # answers by the label of the model
# a message of the front end: what to "do", and the "id" of the search that it belongs to
Wanted = dict


class Explorer(anywidget.AnyWidget):
    """A query box over galleries by their names: CLIP without adapter beside its adapters, at any
    strength.

    `k` results of each model are sent at a time. The front end sends messages such as {"do":
    "search", …}, which `_search` answers by {"is": …}. Raises ValueError for no galleries, or k
    outside 1 to `MOST_HITS`.
    """

    _esm, _css = STATIC / "explorer.js", STATIC / "explorer.css"
    setup = traitlets.Dict().tag(sync=True)

    def __init__(self, galleries: Mapping[str, Gallery], query: str = "", k: int = 60) -> None:
        if not galleries:
            raise ValueError("no galleries were given; expected at least one, by its name")
        if not 1 <= k <= MOST_HITS:
            raise ValueError(f"k={k}: expected at least one result and at most {MOST_HITS}")
        self.galleries, self.k = dict(galleries), k
        self._found: dict[int, Found] = {}  # the answers of the last searches, by id
        self._parts: dict[str, list[bytes]] = {}  # of the file that is arriving, by name
        self._files: dict[str, tuple[TemporaryDirectory, Path]] = {}  # files that arrived, by name
        self._tasks: WeakSet[Task] = WeakSet()  # those that wait or run
        self._readers = ThreadPoolExecutor(2, "cma-previews")
        worker()  # made here, so that it counts the cell that makes the first explorer
        limits = {
            "suffixes": list(SUFFIXES),
            "megabytes": MOST_MEGABYTES,
            "strengths": list(STRENGTHS),
        }
        super().__init__(setup={"media": list(galleries), "query": query, **limits})
        self.on_msg(self.receive)

    def __repr__(self) -> str:
        """The text that is shown where no widget can be shown."""
        return f"a query box over {', '.join(self.galleries)}: run the notebook in JupyterLab to use it"

    def receive(self, _: object, wanted: Wanted, buffers: Sequence[memoryview]) -> None:
        """Handle a message. Work with the model waits for the one thread; previews are made in two
        others.
        """
        do = wanted["do"]
        if do in ("cancel", "search", "missed", "why"):  # earlier requests are no longer wanted
            for task in [one for one in self._tasks if do != "why" or one.name == "why"]:
                task.cancelled |= task.name in ("search", "missed", "why") or do == "cancel"
        if do in ("media", "search", "more", "why", "missed"):
            model, job = self.galleries[wanted["media"]].model, partial(self._guarded, wanted)
            self._tasks.add(task := Task(do, model, job, partial(self._report, wanted)))
            task.report(0, 0)
            worker().thread.submit(task.run)
        elif do in ("thumbs", "open"):
            self._readers.submit(self._guarded, wanted, buffers)
        elif do == "file":
            self._guarded(wanted, buffers)

    def _report(self, wanted: Wanted, done: int, total: int) -> None:
        self.send(
            {"is": "progress", **wanted, "done": done, "total": total, "waits": worker().cells > 0}
        )

    def _guarded(self, wanted: Wanted, given: object) -> None:
        """Do what is wanted, or send the error in one line. Requests about an old search are
        ignored.
        """
        try:
            new = wanted["do"] in ("media", "search", "missed", "file")
            if (about := given if new else self._found.get(wanted["id"])) is not None:
                getattr(self, f"_{wanted['do']}")(wanted, about)
        except Exception as error:
            text = " ".join((str(error) or type(error).__name__).split())
            for name, (_, path) in self._files.items():
                text = text.replace(str(path), name)
            self.send({**wanted, "is": "error", "text": text[:MOST_TEXT]})

    def _media(self, wanted: Wanted, _: Task) -> None:
        """Send what there is to choose from in a gallery, which is embedded first if it is new."""
        gallery = self.galleries[wanted["media"]]
        index, model = gallery.index(), gallery.model
        skipped = [f"{shown_name(name)}: {reason}" for name, reason in index.skipped[:MOST_LISTED]]
        self.send(
            {
                "is": "media",
                **wanted,
                "items": len(index),
                "about": backbone_text(model.clip.config.name_or_path),
                "adapter": gallery.adapter,
                "adapters": list(model.adapters),
                "folders": answers.folders(index),
                "unread": len(index.skipped),
                "kinds": [
                    ("image", "video")[kind] for kind in index.column("is_clip").unique().tolist()
                ],
                "examples": answers.examples(index),
                "skipped": skipped,
            }
        )

    def _search(self, wanted: Wanted, task: Task) -> None:
        """Rank the media by every model, and send the first results."""
        gallery, adapters, strength = (
            self.galleries[wanted["media"]],
            wanted["adapters"],
            wanted["strength"],
        )
        task.total = gallery.frames(adapters, strength)
        indexes = gallery.indexes(adapters, strength)
        query = self._query(next(iter(indexes.values())), wanted)
        chosen = self.k, wanted["kind"], wanted["folder"], True
        found = {label: answers.ask(index, query, *chosen) for label, index in indexes.items()}
        self._found = dict([*self._found.items(), (wanted["id"], found)][-MOST_FOUND:])
        self._more(wanted | {"start": 0}, found)

    def _query(self, index: MediaIndex, wanted: Wanted) -> answers.Query:
        """Return the sentence, the file that was sent, or the one of the media to find similar ones
        of.
        """
        if not (name := wanted["like"] or wanted["file"]):
            return wanted["text"]
        if wanted["file"] in self._files:
            return self._files[name][1]
        for file in index.files:
            if wanted["like"] == (file.id if file.start or file.end else printable(file.media)):
                return file
        raise ValueError(
            f"{name}: no such file is here any more; choose another, or search by words"
        )

    def _more(self, wanted: Wanted, found: Found) -> None:
        """Send the next results of every model."""
        columns = []
        for label, one in found.items():
            hits = [_hit(one.index, hit) for hit in one.piece(wanted["start"], self.k)]
            counts = {"items": len(one.index), "ranked": len(one.ranked), "right": one.right_rank}
            about = {
                "label": label,
                "zero": label == ZERO_SHOT,
                "seconds": one.seconds,
                "cut": one.cut,
            }
            columns.append({"hits": hits, **counts, **about})
        self.send({"is": "hits", "id": wanted["id"], "start": wanted["start"], "columns": columns})

    def _thumbs(self, wanted: Wanted, found: Found) -> None:
        """Send small pictures of some results or, with "moving", clips that play."""
        make, problems, contents = (
            pictures.moving if wanted["moving"] else pictures.thumbnail,
            [],
            [],
        )
        for column, item in wanted["items"][:MOST_THUMBS]:
            index = found[column].index
            try:
                content, problem = make(index.path(index.files[item]), index.files[item]), ""
            # e.g. the file changed since it was embedded
            except (ImportError, OSError, ValueError) as error:
                content, problem = b"", str(error)[:MOST_TEXT]
            contents.append(content)
            problems.append(problem)
        self.send({"is": "thumbs", **wanted, "problems": problems}, contents)

    def _open(self, wanted: Wanted, found: Found) -> None:
        """Send a result at the size of the large view, and the part of it that the model saw."""
        index = found[wanted["column"]].index
        path = index.path(file := index.files[wanted["item"]])
        picture = pictures.copy_of(path, file, pictures.LARGE)
        seen = pictures.jpeg(picture.crop(crop_box(picture.size, index.model.processor)))
        shown = pictures.moving(path, file) if file.kind == "video" else pictures.jpeg(picture)
        about = {"captions": [one[:MOST_TEXT] for one in file.captions[:MOST_LISTED]]}
        self.send({"is": "open", **wanted, **about, "path": shown_name(str(path))}, [shown, seen])

    def _why(self, wanted: Wanted, found: Found) -> None:
        """Send what weighs most in the match of one result with a sentence."""
        answer = found[wanted["column"]]
        why = answers.why(answer.index, answer.query, wanted["item"])
        weights = {"words": why.words, "weights": why.weights, "cosines": why.cosines}
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


def _hit(index: MediaIndex, hit: answers.Hit) -> dict:
    """Return a result in the form that the front end takes."""
    file, copies = hit.file, [index.files[item] for item in hit.alike]
    key, *alike = (str(hash((one.digest, one.key))) for one in (file, *copies))
    # `file_name` may not be unique
    name = file.id if file.start or file.end else printable(file.media)
    shown = {"title": pictures.title_of(file)[:MOST_TEXT], "file": name, "kind": file.kind}
    return (
        vars(hit) | shown | {"ratio": pictures.ratio(index.path(file)), "key": key, "alike": alike}
    )
