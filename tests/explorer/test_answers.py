"""What the explorer answers: the index's own ranking, right answers, weights and reasons."""

from dataclasses import replace

import pytest

from cma import metrics
from cma.media import video
from explorer import answers, attention
from explorer.index import MediaIndex, Where
from tests.toy_index import holding
from tests.toy_media import halves, write_picture


def test_what_is_asked_besides_goes_to_the_index_and_folders_are_listed(galleries, tmp_path):
    for number, name in enumerate(("a/x.png", "a/b/y.png", "ab/z.png", "c/w.png", "v.png")):
        write_picture(tmp_path / name, number)
    index = MediaIndex.build(galleries["pictures"].model, tmp_path)
    assert answers.folders(index) == ["a", "a/b", "ab", "c"]
    assert answers.folders(index, max_folders=1) == ["a"]
    asked = {"like": index.files[0], "without": ["a dog"], "where": Where(folder="a")}
    both = answers.ask(index, "a red cat", 9, **asked)
    assert answers.ask(index, "a red cat " * 99, **asked).cut and not both.cut
    assert [hit.rank for hit in both.hits] == [1, 2]
    wanted = index.query("a red cat", 9, **asked)
    assert [(hit.file.file_name, hit.score) for hit in both.hits] == wanted


@pytest.mark.parametrize(("name", "item"), [("pictures", 2), ("clips", 4)])
def test_why_is_the_explanation_of_the_frames_that_were_compared(indexes, name, item):
    for index in indexes[name].values():
        found = answers.why(index, "a red cat", item)
        path = index.path(index.files[item])
        frames = (
            [video.read_image(path)] if name == "pictures" else video.read_frames(path, 12, None)
        )
        with index.using():
            weights = index.frame_weights("a red cat", item)
            expected = attention.explain(index.model, "a red cat", frames, weights)
        assert len(found.frames) == len(frames) == len(index.frames(item))
        assert [word for word, _ in found.words] == ["a", "red", "cat"]
        assert [weight for _, weight in found.words] == pytest.approx(
            expected.word_weights.tolist()
        )
        assert sum(found.weights) == pytest.approx(1)
        assert found.cosines == pytest.approx(expected.cosines.tolist())
        assert found.score == pytest.approx(index.scores(["a red cat"])[0, item].item())
        assert index.model.active is None


def test_rank_changes_against_the_sorted_scores(indexes):
    before, after = indexes["clips"]["zero-shot"], indexes["clips"]["adapted"]
    changes = answers.rank_changes(before, after)
    assert sorted(change.caption for change in changes) == sorted(before.captions)
    assert all(change.caption in change.file.captions for change in changes)
    in_order = sorted(changes, key=lambda change: before.captions.index(change.caption))
    for index, way in ((before, "before"), (after, "after")):
        ranks = metrics.ranks(index.scores(index.captions), index.text_to_item)
        assert [getattr(change, way) for change in in_order] == ranks.tolist()
    factors = [change.before / change.after for change in changes]
    assert factors == sorted(factors, reverse=True) and factors[0] > 1 > factors[-1]
    with pytest.raises(ValueError, match=r"different files \(5 and 14\)"):
        answers.rank_changes(before, indexes["pictures"]["adapted"])


def test_examples_are_captions_and_the_same_each_time(indexes):
    index = indexes["clips"]["zero-shot"]
    found = answers.examples(index, n=3)
    assert (
        len(set(found)) == 3
        and set(found) <= set(index.captions)
        and found == answers.examples(index, n=3)
    )
    assert len(answers.examples(index, n=99)) == 5
    bare = holding(
        index, [replace(file, captions=()) for file in index.files], index.frames(), index.lengths
    )
    assert answers.examples(bare) == answers.rank_changes(bare, bare) == []


def test_copies_are_one_result_and_a_right_answer_is_never_hidden(model, tmp_path):
    original = halves(12, (400, 300))
    original.save(tmp_path / "a.png")
    original.resize((200, 150)).save(tmp_path / "b.jpg", quality=70)
    original.resize((100, 75)).save(tmp_path / "c.png")
    halves(33, (300, 220)).rotate(90).save(tmp_path / "d.png")
    index = MediaIndex.build(model, tmp_path)
    plain = answers.ask(index, "a red cat", k=9)
    assert len(plain.hits) == 4 and {hit.alike for hit in plain.hits} == {()}
    copies = tuple(hit.item for hit in plain.hits if hit.file.file_name != "d.png")
    folded = answers.ask(index, "a red cat", k=9, folded=True)
    assert [hit.rank for hit in folded.hits] == [1, 2]
    alike = {hit.item: hit.alike for hit in folded.hits}
    assert alike == {3: (), copies[0]: copies[1:]}, "the best one stands for the others"
    files = list(index.files)
    files[copies[-1]] = replace(files[copies[-1]], captions=("a red cat",))
    known = holding(index, files, index.frames(), index.lengths)
    folded = answers.ask(known, "a red cat", k=9, folded=True)
    assert sorted(len(hit.alike) for hit in folded.hits) == [0, 0, 1]
    assert folded.right_rank is not None
