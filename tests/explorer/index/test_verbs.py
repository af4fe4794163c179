"""Every verb of an index answers alike wherever its rows are, filters before the cut, and reads no
more than it must.
"""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

import cma
from cma.config import ReadConfig
from explorer.index import IndexConfig, MediaFile, MediaIndex, Where, table
from explorer.index.table import Table
from tests.toy_index import drawn, holding, names
from tests.toy_media import dated, halves, write_clip, write_picture


@pytest.fixture
def media(tmp_path):
    """Pictures, of which one is a copy, clips, and folders whose names SQL must quote."""
    for i, name in enumerate(("a/x", "a/b/y", "ab/z", "it's 100%/w", 'q"uote/v', "ne\u0301")):
        write_picture(tmp_path / "media" / f"{name}.png", 7 * i + 1)
    halves(12, (400, 300)).save(tmp_path / "media" / "c0.png")
    halves(12, (400, 300)).resize((200, 150)).save(tmp_path / "media" / "c1.png")
    for i in range(3):
        write_clip(tmp_path / "media" / "a" / f"clip {i}.mp4", i, frames=2 + 3 * i)
    for path in (tmp_path / "media").rglob("*.*"):
        os.utime(path, (929_000_000, 929_000_000))  # in 1999
    dated(tmp_path / "media" / "ne\u0301.png", "2014:07:01 12:30:00")
    return tmp_path / "media"


@pytest.fixture(params=["text_conditioned"])
def index(model, media, request):
    """An index in memory, with captions."""
    index = MediaIndex.build(model, media, ReadConfig(request.param))
    files = [replace(file, captions=("A  dog",) * (i % 3)) for i, file in enumerate(index.files)]
    return holding(index, files, index.frames(), index.lengths)


@pytest.fixture
def large(monkeypatch):
    """More than five items are a large index; the second search looks at as many as there are."""
    monkeypatch.setattr(table, "LARGE", 5)


VERBS = {
    "files": lambda one: [list(one.files), one.files[2:4], one.files[-1]],
    "lists": lambda one: [one.captions, one.skipped, repr(one), len(one), one.media_root],
    "columns": lambda one: [one.column(n).tolist() for n in ("is_clip", "copy_hash", "folder")],
    "lengths": lambda one: [one.lengths.tolist(), one.length(3), one.text_to_item.tolist()],
    "right": lambda one: [one.right("a DOG"), one.right("a dog", [5, 4, 3]), one.right("cat")],
    "query": lambda one: one.query("a dog", np.int64(20)),
    "media": lambda one: one.query_media(one.path(one.files[3]), 20),
    "both": lambda one: one.query("a dog", 20, like=one.files[1], without=["a cat", "red"]),
    "copies": lambda one: one.copies(one.ranking("a dog")[0].tolist()),
    "moments": lambda one: one.moments(one.ranking_media(one.files[8])[0].tolist()),
    "weights": lambda one: one.frame_weights("a dog", 1).tolist(),
    "scores": lambda one: one.scores(["a dog", "red"]).tolist(),
    "inside": lambda one: one.inside(Where("image", "a")),
    "labelled": lambda one: [one.labelled("a/x.png"), one.labelled("nobody's")],
}


@pytest.mark.parametrize("index", ["mean_pooled", "text_conditioned"], indirect=True)
def test_every_verb_answers_alike_in_memory_and_in_a_folder(index, model, tmp_path):
    index.save(tmp_path / "saved")
    other = MediaIndex.load(tmp_path / "saved", model)
    for name, verb in VERBS.items():
        assert verb(other) == verb(index), name
    assert len(index.copies(range(len(index)))) == len(index) - 1
    assert index.labelled("a/x.png").file_name == "a/x.png"


@pytest.mark.parametrize("index", ["mean_pooled", "text_conditioned"], indirect=True)
def test_every_verb_of_a_large_index_answers_as_that_of_a_small_one(index, large):
    """Without an index of its own LanceDB compares all rows."""
    wanted = {name: verb(index) for name, verb in VERBS.items()}
    other = replace(index, table=Table(None, index.table._database))
    assert other.table.large and "_held" not in vars(other.table)
    for name, verb in VERBS.items():
        if name in ("query", "media", "both"):
            found, expected = verb(other), wanted[name]
            assert dict(found) == pytest.approx(dict(expected), abs=1e-5)
            assert names(found) == names(expected)
        else:
            assert verb(other) == wanted[name], name
    assert "_held" not in vars(other.table)


def test_other_kinds_folders_years_and_names_are_left_out_before_the_cut(
    index, tmp_path, monkeypatch
):
    everything = index.query("a dog", 20)
    kinds = {file.file_name: file.kind for file in index.files}
    folders = ("", "a", "a/b", "a/", "ab", "it's 100%", 'q"uote', "none", "a_", "./a//")
    for where in (Where(kind, folder) for kind in (None, "image", "video") for folder in folders):
        below = where.folder.replace(".", "").strip("/")
        wanted = [
            (name, score)
            for name, score in everything
            if name.startswith(f"{below}/" if below else "") and where.kind in (None, kinds[name])
        ]
        found = index.query("a dog", 20, where=where)
        assert names(found) == names(wanted)
        assert dict(found) == pytest.approx(dict(wanted), abs=1e-5)
    chosen = {
        Where(year=2014): {"ne\u0301.png"},
        Where(name="N\u00c9"): {"ne\u0301.png"},  # as it is typed, not as a Mac writes it
        Where(year=1999, folder="./a//", name="PNG"): {"a/x.png", "a/b/y.png"},
        Where(name="A mp4 1"): {"a/clip 1.mp4"},
        Where("video", name="png"): set(),
        Where(name='Q"UOTE png'): {'q"uote/v.png'},
        Where(name="it's 100%"): {"it's 100%/w.png"},
        Where(name="' OR true --"): set(),
        Where(name="image"): set(),  # only the name is searched, not what is beside it
        Where(year=19): set(),
    }
    for where, wanted in chosen.items():
        assert {*names(index.query("a dog", 20, where=where))} == wanted
    with pytest.raises(ValueError, match="kind='pictures': expected"):
        Where("pictures")
    # the three that are wanted are the farthest of 900
    files, embeddings = drawn(900)
    asked = index.vector_of_text("a dog")[0]
    far = (normalize(embeddings, dim=1) @ normalize(asked, dim=0)).argsort()[:3].tolist()
    for number in far:
        files[number] = replace(files[number], file_name=f"far/{number}.png", date="2001-02-03")
    monkeypatch.setattr("explorer.index.ask.DEPTH", 10)
    for most in (900, 500):
        monkeypatch.setattr(table, "LARGE", most)
        one = holding(index, files, embeddings)
        assert len(one.ranking("a dog")[0]) == (900 if most == 900 else 10)
        for where in (Where("image", "far"), Where(year=2001), Where(name="FAR")):
            found = names(one.query("a dog", 9, where=where))
            assert found == [files[number].file_name for number in reversed(far)]


def test_answers_of_a_sentence_and_of_a_picture_with_it_are_those_of_the_naive_loop(index):
    model = index.model
    with torch.no_grad():
        unit = {text: normalize(model.encode_text([text])[0], dim=0) for text in ("a dog", "red")}
        length = model.encode_text(["a dog"])[0].norm()
    picture = next(i for i, file in enumerate(index.files) if file.kind == "image")
    both = unit["a dog"] + normalize(index.frames(picture)[0], dim=0) - 0.5 * unit["red"]
    asked = ((both, {"like": index.files[picture], "without": "red"}), (unit["a dog"], {}))
    for query, more in asked:
        items, scores = index.ranking("a dog", **more)
        assert sorted(items.tolist()) == list(range(11))
        assert scores.tolist() == sorted(scores.tolist(), reverse=True)
        text = length * normalize(query, dim=0)[None]
        for item, score in zip(items.tolist(), scores.tolist(), strict=True):
            wanted = cma.similarity.text_conditioned(text, index.frames(item)[None]).item()
            assert score == pytest.approx(wanted, abs=1e-5)
        best = [
            (index.files[item].file_name, scores[place].item()) for place, item in enumerate(items)
        ]
        for k in (4, 99):
            found = index.query("a dog", k, **more)
            assert names(found) == names(best[:k])
            assert dict(found) == pytest.approx(dict(best[:k]), abs=1e-6)
    alone = index.ranking("", like=index.files[picture])
    torch.testing.assert_close(alone, index.ranking_media(index.files[picture]))
    for wrong in ({"without": "red"}, {"like": index.files[0], "without": [" "]}, {}):
        with pytest.raises(ValueError, match="type a few words"):
            index.query("", **wrong)


def test_moments_of_a_few_films_do_not_push_out_the_rest(index, monkeypatch):
    """However many of them are better than anything else."""
    files, embeddings = drawn(60)
    for number in range(50):
        files[number] = replace(files[number], kind="video", media="film", start=1.0 * number)
        files[number] = replace(files[number], end=number + 2.0, seconds=60.0)
        embeddings[number] = index.vector_of_text("a dog")[0] + 1e-3 * number
    monkeypatch.setattr("explorer.index.ask.DEPTH", 5)
    found = holding(index, files, embeddings).query("a dog", 4)
    assert len(found) == 4 and len({*names(found)} - {f"{i}.png" for i in range(50)}) == 3


def test_a_change_that_torch_does_not_count_is_noticed(model, media):
    model.set_adapter("a")
    index = MediaIndex.build(model, media)
    next(model.get_adapter("a").parameters()).data.mul_(3)
    with pytest.raises(ValueError, match="the weights of adapter 'a' changed since; build"):
        index.query("a dog")


def test_an_adapter_without_a_config_is_said_and_a_wrong_config_is_one_line(model, media, capsys):
    model.set_adapter("a")
    MediaIndex.build(model, media)
    said = "adapter 'a' does not say how its training read captions and media; using ReadConfig("
    assert said in capsys.readouterr().out
    model.get_adapter("a").reading = ReadConfig("mean_pooled", max_words=9)
    assert MediaIndex.build(model, media).config == IndexConfig("mean_pooled", max_words=9)
    assert MediaIndex.build(model, media, ReadConfig()).config == IndexConfig()
    assert "adapter 'a' was trained with ReadConfig(" in capsys.readouterr().out
    with pytest.raises(TypeError, match=r"^expected a cma.ReadConfig or TrainConfig, not 5$"):
        MediaIndex.build(model, media, config=5)


# ---- hostile rows


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "a/../../b.png"])
def test_a_path_that_leaves_the_media_folder_is_refused(index, path):
    """An index may come from somebody else."""
    files = [MediaFile("p.png", path, "image")]
    made = holding(index, files, torch.ones(1, 32))
    for act in (lambda: made.files[0], lambda: made.query("a dog"), lambda: list(made.files)):
        with pytest.raises(ValueError, match=r"'.*' points outside the folder of the media; build"):
            act()
