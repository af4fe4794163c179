"""Training says whether it helped, and what is unusual in the items it is given."""

import re

import pytest

import cma
from cma import metrics
from cma.data import from_pairs
from cma.training import RunRecord, encode, query_ranks, words
from tests.conftest import one_line
from tests.toy_data import write_images
from tests.toy_media import write_picture


def ranks(model, dataset, config):
    return query_ranks(encode(model, dataset, config), dataset, config)["text_to_visual"]


def test_the_gain_and_its_interval_stand_beside_the_result(train_set, config, make_model, capsys):
    model, test = make_model(), train_set.splits["test"]
    record = cma.train(model, train_set, config)
    with model.using(None):
        before = ranks(model, test, config)
    after = ranks(model, test, config)
    gain = metrics.bootstrap_difference(after, before, test.text_to_item)
    assert record.gain == gain and "gain" not in record.to_json()
    said = capsys.readouterr().out
    low, high = metrics.summary(before)["R@1"], metrics.summary(after)["R@1"]
    assert (
        f"test text-to-image R@1 in %: zero-shot {low:.1f}, with the adapter {high:.1f}: " in said
    )
    assert metrics.verdict(gain) in said


@pytest.mark.parametrize(
    ("gain", "losses", "steps", "items", "said"),
    [
        ((3.0, 1.0, 5.0), (3, 1), 9, 9, None),
        ((0.0, -1.0, 1.0), (3, 1), 15, 900, "only 15 steps of 8 pairs at most; .*items=24"),
        ((0.0, -1.0, 1.0), (3, 2.9), 500, 900, r"hardly fell \(3.00 to 2.90\), so lr=0.01 is low"),
        ((0.0, -9.0, 9.0), (3, 1), 500, 9, "9 test items are too few to tell; expected 50"),
        ((-9.0, -9.5, -8.0), (3, 6), 500, 900, r"the loss rose, so the rate \(0.01\) is too high"),
        ((0.0, -1.0, 1.0), (3, 0.1), 500, 900, r"fits its own 24 items \(loss 0.10\), but not oth"),
    ],
)
def test_what_gained_nothing_says_why_perhaps(
    train_set, config, make_model, gain, losses, steps, items, said
):
    model = make_model()
    with model.using(model.active):
        record = RunRecord.describe(model, train_set, config)
    record.train_items, record.total_steps, record.gain = 24, steps, gain
    record.history = [{"curve": [[1, losses[0], 1e-3], [2, losses[1], 0.0]]}]
    record.metrics = {"split": "test", "items": items, "text_to_visual": {"R@1": 50.0}}
    found = words.helped(record)
    assert ("not clearly better than without" in found) == (said is not None)
    assert found.count("\n") == 0
    if said:
        assert re.search(said, found), found


def test_what_is_unusual_in_the_items_is_said(train_set, config, make_model, capsys):
    cma.train(make_model(), train_set, config.merge({"batch_size": 99, "epochs": 1}))
    said = capsys.readouterr().out
    assert "a batch of 99 is reduced to all 48 examples" in said
    assert "a batch of 48 pairs has 24 items: captions of one item are no negatives" in said
    assert "val: the epoch is chosen on 8 items; with fewer than 50 that is mostly chance" in said
    usual = {"name": "usual", "epoch_unit": "items", "epochs": 1, "select_on": "last"}
    cma.train(make_model(), train_set, config.merge(usual))
    said = capsys.readouterr().out
    assert not any(
        word in said for word in ("is reduced to", "no negatives", "chance", "trained on")
    )


def test_captions_that_many_items_share_are_said(tmp_path, config, make_model, capsys):
    """Two captions for all: half of each batch teaches nothing."""
    paths = [write_picture(tmp_path / f"{n}.png", n) for n in range(8)]
    train = from_pairs([(path, f"A cat {n % 2}") for n, path in enumerate(paths)], "train")
    train.splits["test"] = from_pairs([(paths[0], "a dog"), (paths[1], "a bird")], "test")
    settings = config.merge({"select_on": "last", "epochs": 1, "batch_size": 8})
    cma.train(make_model(), train, settings)
    assert "a batch of 8 pairs has 2 different captions" in capsys.readouterr().out
    one = from_pairs([(path, "a cat") for path in paths], "train")
    one.splits["test"] = train.splits["test"]
    with one_line(ValueError, "pairs: all 8 captions have one caption: no pair has negatives"):
        cma.train(make_model(), one, settings)


def test_a_test_that_is_trained_on_is_said(tmp_path, config, make_model, capsys):
    pairs = [(write_picture(tmp_path / f"{n}.png", n), f"a cat {n}") for n in range(8)]
    train, test = (from_pairs(pairs, split) for split in ("train", "test"))
    train.splits["test"] = test
    cma.train(make_model(), train, config.merge({"select_on": "last", "epochs": 1}))
    assert "test: 8 of 8 items are trained on, too" in capsys.readouterr().out


def test_one_item_alone_is_one_sentence_that_can_be_followed(tmp_path, config, make_model):
    """Each way out that the sentence names is open."""
    alone = cma.load_dataset(write_images(tmp_path / "one", {"train": 1}), "train")
    said = "toy: no val split and 1 training items, too few to hold some out; add a val split, or "
    for select_on, message in (("val", said), ("last", "add a val or test split$")):
        with one_line(ValueError, message):
            cma.train(make_model(), alone, config.merge({"select_on": select_on}))
    five = cma.load_dataset(write_images(tmp_path / "five", {"train": 5}), "train")
    with one_line(ValueError, 'add a val or test split, or set select_on="val"$'):
        cma.train(make_model(), five, config.merge({"select_on": "last", "epochs": 1}))
    settings = {"batch_size": 4, "epochs": 1}
    assert cma.train(make_model(), five, config.merge(settings)).metrics["items"] == 1
    tested = cma.load_dataset(write_images(tmp_path / "two", {"train": 4, "test": 2}), "train")
    with one_line(ValueError, 'until there are 5, or set select_on="last"$'):
        cma.train(make_model(), tested, config.merge({"name": "two"}))
    settings |= {"select_on": "last", "name": "two"}
    assert cma.train(make_model(), tested, config.merge(settings)).metrics["items"] == 2
