"""The explorer without a browser: every message is answered, in bounds, or refused in one line."""

import gc
import io
import json
import os
import time

import av
import numpy as np
import pytest
import torch.nn.functional as F
from PIL import Image

from cma import RetrievalModel, load_backbone
from cma.media import video
from explorer import answers, session
from explorer.gallery import Gallery
from explorer.session import MAX_HITS, MAX_LISTED, Session
from explorer.widget import Explorer
from explorer.work import worker
from tests.conftest import build_clip, build_processor
from tests.toy_data import write_dataset
from tests.toy_media import halves, write_clip, write_film, write_picture, write_shard

PATIENCE = 60  # seconds
FIRST = {"column": "zero-shot", "item": 0}


class FrontEnd:
    """Stands in for the browser: it asks, waits for the answers, and keeps all that was sent."""

    def __init__(self, session: Session, media: str, adapters=(None, "a")) -> None:
        self.session, self.media, self.adapters, self.id, self.sent = (
            session,
            media,
            adapters,
            0,
            [],
        )
        session.send = lambda content, buffers=None: self.sent.append(
            (json.loads(json.dumps(content)), buffers)
        )

    def send(self, do: str, buffers=(), **wanted) -> int:
        self.id += do in ("media", "search", "missed")
        wanted = {"do": do, "id": self.id, "media": self.media} | wanted
        self.session.receive(wanted, [memoryview(content) for content in buffers])
        return self.id

    def wait(self, *kinds: str, number: int) -> tuple[dict, list[bytes]]:
        """The first answer of these kinds to a message."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            for content, buffers in list(self.sent):
                if content["is"] in kinds and content["id"] == number:
                    return content, buffers
            time.sleep(0.01)
        raise TimeoutError(f"no {kinds} among {[content for content, _ in self.sent]}")

    def search(
        self,
        text="",
        adapters=None,
        strength=1.0,
        kind="",
        folder="",
        like="",
        file="",
        **view,
    ) -> dict:
        wanted = {"text": text, "like": like, "file": file, "kind": kind, "folder": folder}
        wanted |= {"year": "", "order": "", "names": False} | view
        wanted |= {"adapters": list(adapters or self.adapters), "strength": strength}
        number = self.send("search", **wanted)
        return self.wait("hits", "error", number=number)[0]

    def ask(self, do: str, **wanted) -> tuple[dict, list[bytes]]:
        self.sent.clear()
        return self.wait(do, "error", number=self.send(do, **wanted))


@pytest.fixture
def front(galleries):
    return FrontEnd(Session(galleries, k=3), "pictures")


@pytest.fixture
def of_folder(toy_clip, toy_processor):
    """Makes the front end of one's own media, under CLIP alone."""

    def make(folder, name="mine", **options):
        gallery = Gallery(RetrievalModel(toy_clip, toy_processor), folder)
        return FrontEnd(Session({name: gallery}, **options), name, [None])

    return make


def hits_of(answer) -> list[dict]:
    """The results of the first model."""
    return answer["columns"][0]["hits"]


def files(answer) -> dict[str, list[str]]:
    return {
        column["label"]: [hit["file"] for hit in column["hits"]] for column in answer["columns"]
    }


def expected(gallery, query, adapters=(None, "a"), scale=1.0, k=3):
    indexes = gallery.indexes(adapters, scale)
    ask = "query" if isinstance(query, str) else "query_media"
    return {
        label: [name for name, _ in getattr(one, ask)(query, k)] for label, one in indexes.items()
    }


def test_it_needs_galleries_a_sensible_k_and_no_browser(galleries):
    with pytest.raises(ValueError, match="no galleries were given"):
        Explorer({})
    for k in (0, MAX_HITS + 1):
        with pytest.raises(
            ValueError, match=f"k={k}: expected at least one result and at most 200"
        ):
            Explorer(galleries, k=k)
    shown = Explorer(galleries, "a cat")
    assert shown._repr_mimebundle_()[0]["text/plain"].startswith(
        "a query box over pictures, clips: run the"
    )
    assert shown.setup["media"] == ["pictures", "clips"] and shown.setup["query"] == "a cat"
    json.dumps(shown.setup)


def test_a_search_shows_the_words_leads_to_their_second_and_keeps_each_cosine(tmp_path, of_folder):
    for number in range(6):
        write_picture(tmp_path / f"{number}.png", number)
    write_film(tmp_path / "film.mp4", [])
    subtitle = "1\n00:00:05,500 --> 00:00:06,000\nand then the\nfox sleeps\n"
    (tmp_path / "film.srt").write_text(subtitle)
    (tmp_path / "notes.csv").write_text("file_name,text\n4.png,a red fox\n")
    front = of_folder(tmp_path)
    plain = front.search("fox")["columns"][0]["hits"]
    found = front.search("fox", names=True)["columns"][0]["hits"]
    assert {hit["file"] for hit in found[:2]} == {"film.mp4", "4.png"}
    said = {hit["file"]: hit["quote"] for hit in found}
    assert said["4.png"] == ["a red ", "fox", "", None]
    assert said["film.mp4"] == ["and then the ", "fox", " sleeps", 5.5] and said["0.png"] is None
    cosines = {hit["file"]: hit["score"] for hit in plain}
    assert {hit["file"]: hit["score"] for hit in found} == cosines
    assert all(hit["quote"] is None for hit in plain)
    film = next(hit["item"] for hit in found if hit["file"] == "film.mp4")
    assert front.ask("open", column="zero-shot", item=film)[0]["at"] == 5.5
    only = front.search("fox", names=True, kind="image")["columns"][0]["hits"]
    assert only[0]["file"] == "4.png" and "film.mp4" not in {hit["file"] for hit in only}


@pytest.mark.parametrize(("strength", "keeps"), [(None, {}), (0.55, {"a": 0.5}), (1.0, {})])
def test_the_strength_of_an_adapters_card_is_told_as_a_step(
    front, galleries, monkeypatch, strength, keeps
):
    monkeypatch.setattr(galleries["pictures"].model.adapters["a"], "strength", strength)
    assert front.ask("media")[0]["keeps"] == keeps


def test_each_model_answers_at_any_strength_piece_by_piece(front, galleries):
    gallery = galleries["pictures"]
    found = front.search("a red cat")
    assert files(found) == expected(gallery, "a red cat")
    right = answers.ask(gallery.index(), "a red cat").right_rank
    column = found["columns"][0]
    told = [column[name] for name in ("items", "ranked", "right", "label")]
    assert told == [14, 14, right, "zero-shot"]
    front.sent.clear()
    front.send("more", start=3)
    more, _ = front.wait("hits", number=front.id)
    everything = expected(gallery, "a red cat", k=6)
    assert {
        label: [*files(found)[label], *names] for label, names in files(more).items()
    } == everything
    for scale in (0.5, 0.0):
        found = front.search("a red cat", adapters=["b", "a"], strength=scale)
        assert files(found) == expected(gallery, "a red cat", ["b", "a"], scale)
    assert list(files(found)) == ["zero-shot"], "adapters of no strength are CLIP"


def test_what_there_is_to_choose_from(front, galleries, tmp_path):
    media, _ = front.ask("media", media="clips")
    assert (
        media["kinds"] == ["video"] and media["adapters"] == ["a", "b"] and media["adapter"] == "a"
    )
    assert media["examples"] == answers.examples(galleries["clips"].index()) and media["items"] == 5
    write_picture(tmp_path / "in" / "a.png", 1)
    write_clip(tmp_path / "b.mp4", 1)
    for number in range(MAX_LISTED + 5):
        (tmp_path / f"{number}.png").touch()
    model = RetrievalModel(build_clip(), build_processor())
    front.session.galleries["mine"] = Gallery(model, tmp_path)
    mine, _ = front.ask("media", media="mine")
    assert (mine["kinds"], mine["folders"], mine["adapters"]) == (["image", "video"], ["in"], [])
    assert mine["unread"] == MAX_LISTED + 5 and len(mine["skipped"]) == MAX_LISTED
    assert mine["skipped"][0] == "0.png: empty file; cannot be read as a picture"
    front.session.galleries["gone"] = Gallery(model, tmp_path / "gone")
    error, _ = front.ask("media", media="gone")
    assert error["is"] == "error" and "no such folder" in error["text"]


def test_a_file_that_changed_leaves_a_message_in_its_place(of_folder, tmp_path):
    path = write_picture(tmp_path / "media" / "a.png", 1)
    front = of_folder(path.parent)
    front.search("a cat")
    path.write_bytes(b"no picture")
    thumbs, contents = front.ask("thumbs", items=[["zero-shot", 0]])
    assert contents == [b""] and "a.png: cannot be read as a picture" in thumbs["problems"][0]
    error, _ = front.ask("open", **FIRST)
    assert error["is"] == "error" and "a.png: cannot be read" in error["text"]
    assert (error["do"], error["column"], error["item"]) == ("open", "zero-shot", 0), (
        "what it belongs to"
    )


def test_more_like_a_part_of_a_clip_is_like_that_part_alone(of_folder, tmp_path):
    write_clip(tmp_path / "media" / "long.mp4", 1, frames=24)
    parts = [(0.0, 0.5), (1.5, 2.0)]
    lines = [
        {"file_name": "media/long.mp4", "id": f"part{number}", "start": start, "end": end}
        for number, (start, end) in enumerate(parts)
    ]
    lines = [line | {"captions": ["a clip"], "split": "test"} for line in lines]
    front = of_folder(write_dataset(tmp_path, lines, {"kind": "video"}))
    assert sorted(files(front.search("a clip"))["zero-shot"]) == ["part0", "part1"]
    for name in ("part0", "part1"):
        best, other = hits_of(front.search(like=name))
        assert best["file"] == name and best["score"] > max(0.999, other["score"] + 0.001)


def test_queries_leave_nothing_behind(front):
    def ask(queries):
        for number in queries:
            column = front.search(f"a red cat {number}")["columns"][number % 2]
            which = {"column": column["label"], "item": column["hits"][0]["item"]}
            front.ask(
                "thumbs",
                items=[[column["label"], hit["item"]] for hit in column["hits"]],
            )
            front.sent.clear()
            front.send("more", start=3)
            front.wait("hits", number=front.id)
            if number % 20 == 0:
                front.ask("open", **which)
                front.ask("why", **which)
        front.sent.clear()
        gc.collect()
        found = gc.get_objects()
        return len(found), sum(type(one) is answers.Answer for one in found)

    before, kept = ask(range(30))
    after, still_kept = ask(range(30, 130))
    assert still_kept <= kept, "those of the last searches alone"
    assert after - before < 100, "less than one object a query"


def test_a_search_is_cancelled_at_the_next_batch_and_what_is_embedded_is_kept(
    toy_clip, toy_processor, tmp_path
):
    for number in range(100):
        write_picture(tmp_path / "media" / f"{number}.png", number)
    model = RetrievalModel(toy_clip, toy_processor)
    front = FrontEnd(
        Session({"mine": Gallery(model, tmp_path / "media", folder=tmp_path / "kept")}), "mine"
    )
    embedded = []

    def first(_, given, named):
        embedded.append(1)
        if len(embedded) == 2:
            front.send("cancel")

    hook = toy_clip.vision_model.register_forward_pre_hook(first, with_kwargs=True)
    wanted = {"text": "a cat", "like": "", "file": "", "kind": "", "folder": "", "year": ""}
    front.send("search", **wanted, order="", names=False, adapters=[None], strength=1.0)
    worker().thread.submit(int).result(PATIENCE)  # after the task
    hook.remove()
    assert model.active is None and not toy_clip.vision_model._forward_pre_hooks
    assert (
        not [content for content, _ in front.sent if content["is"] == "hits"] and len(embedded) == 2
    )
    assert len(files(front.search("a cat", adapters=[None]))["zero-shot"]) == 60


def test_without_a_query_the_newest_are_listed_with_the_number_of_all(of_folder, tmp_path):
    """By what the camera wrote, or when a file was last changed; of a year, a kind, a folder."""
    when = {"old.png": 1_000_000_000, "in/new.png": 1_700_000_000, "clip.mp4": 1_600_000_000}
    for number, (name, seconds) in enumerate(when.items()):
        write = write_clip if name.endswith("mp4") else write_picture
        os.utime(write(tmp_path / name, number), (seconds, seconds))
    exif = Image.Exif()
    exif.get_ifd(0x8769)[36867] = "2014:07:01 12:30:00"
    Image.new("RGB", (40, 30), "red").save(tmp_path / "taken.jpg", exif=exif)
    front = of_folder(tmp_path)
    media, _ = front.ask("media")
    assert media["years"] == [2023, 2020, 2014, 2001]

    def listed(**view):
        (column,) = front.search(**view)["columns"]
        assert column["newest"] and column["items"] == 4
        assert column["ranked"] == len(column["hits"])
        return [hit["file"] for hit in column["hits"]]

    assert listed() == ["in/new.png", "clip.mp4", "taken.jpg", "old.png"]
    assert listed(year="2014") == ["taken.jpg"] and listed(kind="video") == ["clip.mp4"]
    assert listed(kind="image", folder="in") == ["in/new.png"]
    by_likeness = files(front.search("a cat"))["zero-shot"]
    scores = [hit["score"] for hit in hits_of(front.search("a cat"))]
    match = [one >= (scores[0] + np.median(scores)) / 2 for one in scores]
    (column,) = front.search("a cat", order="date")["columns"]
    matching = set(by_likeness[: sum(match)])
    assert [hit["file"] for hit in column["hits"]] == [one for one in listed() if one in matching]
    assert column["dated"] and 1 <= column["ranked"] == sum(match) < 4 and column["right"] is None
    named = hits_of(front.search("old PNG", names=True))
    assert named[0]["file"] == "old.png" and [one["named"] for one in named] == [True, *[False] * 3]


@pytest.fixture
def film(of_folder, tmp_path):
    """A front end that has asked a film and its copy."""
    write_film(tmp_path / "media" / "film.mp4", ["aac"])
    front = of_folder(tmp_path / "media")
    front.search("a red cat")
    return front


def test_a_clip_is_shown_at_its_best_moment_and_that_part_plays(film, tmp_path):
    index = film.session.galleries["mine"].index()
    weights = index.frame_weights("a red cat", 0)
    opened, _ = film.ask("open", **FIRST)
    expected = video.frame_indices(80, len(weights))
    told, shown = film.ask("moments", **FIRST)
    times = [at for at, _ in told["strip"]]
    assert times == pytest.approx([one / 10 for one in expected], abs=0.2)
    assert opened["at"] == times[int(weights.argmax())]
    cosines = F.cosine_similarity(index.frames(0), index.vector_of_text("a red cat"))
    assert [one for _, one in told["strip"]] == pytest.approx(cosines.tolist(), abs=1e-6)
    assert len(shown) == len(told["moments"]) == 5
    assert told["moments"][0] == max(told["strip"], key=lambda one: one[1])
    assert opened["facts"]["seconds"] == pytest.approx(8)
    why, frames = film.ask("why", **FIRST)
    assert why["times"] == times and len(frames) == len(why["times"])
    for form in ("mp4", "webm"):
        clip, (content,) = film.ask("clip", **FIRST, at=7.0, form=form)
        with av.open(io.BytesIO(content)) as part:
            assert {stream.type for stream in part.streams} == {"video", "audio"}
            assert part.duration / 1e6 == pytest.approx(6, abs=0.3)
        assert clip["start"] == 2.0
    film.sent.clear()
    (tmp_path / "media" / "film.mp4").write_bytes(b"no clip")
    error, _ = film.ask("clip", **FIRST, at=0.0, form="mp4")
    assert error["is"] == "error" and "film.mp4: cannot be " in error["text"]


def test_a_clip_that_a_picture_finds_begins_at_the_moment_that_is_most_like_it(film):
    index = film.session.galleries["mine"].index()
    item = index.files[0].label
    film.search(like=item)
    opened, _ = film.ask("open", **FIRST)
    frames = F.normalize(index.frames(0), dim=1)
    best = int((frames @ index.vector_of(index.files[0])[0]).argmax())
    told, _ = film.ask("moments", **FIRST)
    assert opened["at"] == told["strip"][best][0] == told["moments"][0][0]


@pytest.mark.parametrize(
    ("text", "foreign"),
    [("一只狐狸骑自行车", True), ("ثعلب يركب دراجة", True), ("a fox, café crème", False)],
)
def test_a_query_in_a_script_that_the_model_does_not_know_is_said(text, foreign):
    assert answers.is_foreign(load_backbone("mini")[1].tokenizer, text) is foreign


def test_what_lies_in_a_shard_is_shown_copied_and_found_as_a_file_is(
    of_folder, tmp_path, monkeypatch
):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[36867] = "2014:07:01 12:30:00"
    halves(9, (60, 30)).save(content := io.BytesIO(), "JPEG", exif=exif)
    clip = write_clip(tmp_path / "clip.mp4", 1).read_bytes()
    contents = {"a.jpg": content.getvalue(), "b.mp4": clip}
    (tmp_path / "media").mkdir()
    shard = write_shard(tmp_path / "media" / "s.tar", contents)
    os.utime(shard, (1_600_000_000, 1_600_000_000))
    front = of_folder(tmp_path / "media", on_page=True)
    assert front.ask("media")[0]["years"] == [2020, 2014]
    hits = {hit["file"]: hit for hit in hits_of(front.search("a cat"))}
    assert hits["s.tar/a.jpg"]["ratio"] == 2
    shown, _ = front.ask("open", column="zero-shot", item=hits["s.tar/a.jpg"]["item"])
    assert shown["facts"]["taken"] == "2014-07-01 12:30" and shown["file"] is None
    assert shown["facts"]["changed"] == "2020-09-13 12:26"
    items = [["zero-shot", hit["item"]] for hit in hits.values()]
    front.ask("copy", items=items, folder=str(tmp_path / "chosen"))
    copied = {path.name: path.read_bytes() for path in (tmp_path / "chosen").iterdir()}
    assert copied == contents
    opened = []
    monkeypatch.setattr(session.webbrowser, "open", opened.append)
    front.send("reveal", **FIRST)
    front.ask("thumbs", items=items)
    assert opened == [shard.parent.as_uri()]
