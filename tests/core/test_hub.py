"""Adapters on the hub: pushed, fetched by name, described; a stranger's file can do nothing but
compute.
"""

import json
from collections import Counter
from random import Random

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard

from cma import AdapterConfig, RetrievalModel, checkpoints
from cma.backbone import identity, load_backbone
from cma.checkpoints import CONFIG, WEIGHTS
from cma.training import RunRecord
from tests import ROOT
from tests.conftest import ADAPTER, build_clip, change_json, one_line, same, with_adapters
from tests.hub_server import Repository
from tests.methods.conftest import embed


def test_what_was_pushed_is_loaded_by_name_and_the_second_time_without_a_request(
    hub, model, monkeypatch
):
    model.clip.config.name_or_path, model.clip.config._commit_hash = "some/clip", "1" * 40
    model.set_adapter("a")
    assert model.push_adapter("a", "user/scenes") == f"{hub.address}/user/scenes"
    (files,) = list(hub.repositories["user/scenes"].commits.values())[1:]
    assert files.keys() == {".gitattributes", CONFIG, WEIGHTS, "README.md"}
    card = files["README.md"].decode()
    assert hub.cards in ([card], [card, card])  # twice by huggingface-hub 1.16 and before
    monkeypatch.delenv("HF_TOKEN")  # it is public
    other = RetrievalModel(model.clip)
    other.load_adapter("user/scenes", "one")
    assert other.active == "one" and same(embed(other), embed(model))
    asked = len(hub.asked)
    assert not any("README" in one for one in hub.asked if one.startswith("GET"))
    other.load_adapter("user/scenes", "two")
    commit = hub.repositories["user/scenes"].branches["main"]
    other.load_adapter("user/scenes", "three", revision=commit)
    assert len(hub.asked) == asked and same(embed(other), embed(model))


def test_a_new_version_is_fetched_by_its_revision_and_a_folder_of_that_name_wins(
    hub, model, tmp_path, monkeypatch
):
    before = embed(model)
    model.push_adapter("a", "user/scenes")
    old = hub.repositories["user/scenes"].branches["main"]
    with pytest.raises(
        OSError, match="user/scenes: no revision 'v2'; expected one of its branches"
    ):
        model.push_adapter("b", "user/scenes", revision="v2")
    model.push_adapter("b", "user/scenes", commit_message="better")
    new = hub.repositories["user/scenes"].branches["main"]
    for name, revision, like in (("new", new, "b"), ("old", old, "a"), ("main", None, "b")):
        model.load_adapter("user/scenes", name, revision)
        found = embed(model)
        model.set_adapter(like)
        assert same(found, embed(model)) and not same(found, before)
    model.push_adapter("a", "user/scenes")
    asked = len(hub.asked)
    for name, like in (("cached", "b"), ("downloaded", "a")):
        model.load_adapter("user/scenes", name)
        assert torch.equal(model.adapters[name].shared_weight, model.adapters[like].shared_weight)
        assert len(hub.asked) == asked
        huggingface_hub.snapshot_download("user/scenes")  # as `hf download` does
        asked = len(hub.asked)
    model.save_adapter(tmp_path / "user" / "scenes", "a")
    monkeypatch.chdir(tmp_path)
    model.load_adapter("user/scenes", "folder")
    assert torch.equal(model.adapters["folder"].shared_weight, model.adapters["a"].shared_weight)
    assert len(hub.asked) == asked


UNKNOWN = "unknown, or private: check the name, or run `hf auth login` with a token"


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (None, UNKNOWN),
        ((401, "RepoNotFound"), UNKNOWN),
        ((403, "Forbidden"), UNKNOWN),
        ((403, "GatedRepo"), "gated: ask for access on its page, then run `hf auth login`"),
    ],
)
def test_what_the_hub_refuses_is_one_line_that_says_what_to_do(hub, model, refused, said):
    if refused:
        hub.repositories["user/scenes"] = Repository(refused=refused)
        hub.repositories["user/scenes"].commit({CONFIG: b"{}", WEIGHTS: b""})
    for call in (model.load_adapter, lambda source, name: RetrievalModel.from_adapter(source)):
        with one_line(OSError, f"user/scenes: {said}") as error:
            call("user/scenes", "c")
        assert type(error.value) is OSError
    assert "c" not in model.adapters and model.active is None


def test_a_revision_or_an_adapter_that_is_not_there(hub, model, tmp_path):
    hub.repositories["user/other"] = Repository()
    hub.repositories["user/other"].commit({"config.json": b"{}", "adapter_model.bin": b"pickle"})
    with pytest.raises(OSError, match="^user/other: no revision 'v2'"):
        model.load_adapter("user/other", "c", revision="v2")
    with pytest.raises(
        FileNotFoundError,
        match=r"user--other.*: no adapter_config\.json",
    ):
        model.load_adapter("user/other", "c")
    asked = len(hub.asked)
    for name in ("scenes", "a/b/c", "../scenes", tmp_path / "nowhere", "user/sc nes"):
        with pytest.raises(
            FileNotFoundError, match="no such folder; expected one of save_adapter, or 'user/"
        ):
            model.load_adapter(name, "c")
    assert len(hub.asked) == asked, "these are no names of the hub's"


def test_without_a_hub_what_is_cached_is_loaded_and_the_rest_is_one_line(hub, model, monkeypatch):
    model.push_adapter("a", "user/scenes")
    model.load_adapter("user/scenes", "fetched")
    hub.repositories.clear()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    model.load_adapter("user/scenes", "offline")
    said = r"user/more: not in the cache, and the hub cannot be used \(.*\); go online, or give"
    with one_line(OSError, f"{said} a folder; here is no folder of that name"):
        model.load_adapter("user/more", "c")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    # nobody listens
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    for call in (
        lambda: model.load_adapter("user/more", "c"),
        lambda: model.push_adapter("a", "user/more"),
    ):
        with one_line(OSError, said):
            call()
    model.load_adapter("user/scenes", "no server")


def test_pushing_needs_a_token_and_keeps_a_card_that_somebody_has_edited(hub, model, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_another")
    with pytest.raises(OSError, match="user/scenes: unknown, or private: .*`hf auth login`"):
        model.push_adapter("a", "user/scenes")
    monkeypatch.setenv("HF_TOKEN", hub.token)
    with pytest.raises(ValueError, match="no adapter 'c'"):
        model.push_adapter("c", "user/scenes")
    assert not hub.repositories
    model.push_adapter("a", "user/scenes", license="mit")
    model.push_adapter("a", "user/scenes", license="apache-2.0")
    repository = hub.repositories["user/scenes"]
    card = repository.commits[repository.branches["main"]]["README.md"]
    assert ModelCard(card.decode()).data.license == "apache-2.0"
    repository.commit({"README.md": card + b"\nMy own words.\n"})
    with pytest.warns(UserWarning, match=r"^user/scenes: README\.md: kept, as we did not write"):
        model.push_adapter("b", "user/scenes", license="mit")
    files = repository.commits[repository.branches["main"]]
    assert files["README.md"] == card + b"\nMy own words.\n"
    assert files.keys() == {".gitattributes", CONFIG, WEIGHTS, "README.md"}
    assert (
        model.load_adapter("user/scenes", "c").state_dict().keys()
        == model.adapters["b"].state_dict().keys()
    )
    assert torch.equal(model.adapters["c"].shared_weight, model.adapters["b"].shared_weight)


# ---- the backbone that an adapter names


@pytest.fixture
def backbones(toy_processor, tmp_path, monkeypatch):
    """Two commits of the hub's some/clip in the cache, the newer one as main; no hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    cached, commits = tmp_path / "cache" / "models--some--clip", ("0" * 40, "1" * 40)
    for number, commit in enumerate(commits):
        clip = build_clip()
        clip.logit_scale.data.fill_(number)
        clip.save_pretrained(cached / "snapshots" / commit)
        toy_processor.save_pretrained(cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commits[1])
    return commits


def test_from_adapter_loads_the_backbone_at_the_revision_that_the_adapter_names(
    backbones, tmp_path
):
    for number, commit in enumerate(backbones):
        model = RetrievalModel(*load_backbone("some/clip", revision=commit))
        assert identity(model.clip) == {"name": "some/clip", "revision": commit}
        model.add_adapter("a", ADAPTER)
        model.save_adapter(tmp_path / "scenes.v2", "a")
        again = RetrievalModel.from_adapter(
            tmp_path / "scenes.v2", dtype=torch.float32, device="cpu"
        )
        assert again.active == "scenes_v2" and same(embed(again), embed(model))
        assert again.clip.logit_scale == number
        data = ModelCard.load(tmp_path / "scenes.v2" / "README.md").data
        assert (data.base_model, data.base_model_revision) == ("some/clip", commit)
    model.load_adapter(tmp_path / "scenes.v2", "b")
    change_json(
        tmp_path / "scenes.v2" / CONFIG, backbone={"name": "some/clip", "revision": "2" * 40}
    )
    with one_line(OSError, "'some/clip' is neither 'mini', nor a folder here"):
        RetrievalModel.from_adapter(tmp_path / "scenes.v2")


@pytest.mark.parametrize(
    "backbone",
    [
        {"name": None, "revision": "0" * 40},
        {"name": "some/clip", "revision": None},
        {"name": "mini", "revision": "0" * 12},  # another mini than the one that is bundled
    ],
)
def test_from_adapter_refuses_a_backbone_that_it_cannot_find(backbones, model, tmp_path, backbone):
    model.save_adapter(tmp_path / "a", "a")
    change_json(tmp_path / "a" / CONFIG, backbone=backbone)
    with pytest.raises(ValueError, match="its backbone is .*load_adapter"):
        RetrievalModel.from_adapter(tmp_path / "a")


def test_a_folder_that_a_strangers_adapter_names_is_not_looked_up(hub, clip_folder, tmp_path):
    model = RetrievalModel(*load_backbone(clip_folder))
    model.add_adapter("a", AdapterConfig(4, 8))
    model.save_adapter(tmp_path / "own", "a")
    assert same(embed(RetrievalModel.from_adapter(tmp_path / "own")), embed(model))
    assert str(tmp_path) not in (tmp_path / "own" / "README.md").read_text("utf-8")
    model.push_adapter("a", "user/scenes")
    with pytest.raises(
        ValueError, match="user/scenes: its backbone is .*clip.*; load that yourself"
    ):
        RetrievalModel.from_adapter("user/scenes")


# ---- the card


def recorded():
    return json.loads((ROOT / "results" / "mini-flickr30k-cross-modal.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def mini():
    model = RetrievalModel.from_pretrained("mini")
    model.add_adapter("a", AdapterConfig())
    return model


def test_the_card_tells_what_the_record_tells(mini, tmp_path):
    """From the record as an object, a dict and a path; parsed again by the hub's own classes."""
    record = recorded()
    record["backbone"] = identity(mini.clip)
    (tmp_path / "run.json").write_text(json.dumps(record))
    cards = []
    for given in (record, tmp_path, tmp_path / "run.json", RunRecord.load(tmp_path)):
        mini.save_adapter(tmp_path / "scenes", "a", record=given, license="cc-by-4.0")
        cards.append((tmp_path / "scenes" / "README.md").read_text("utf-8"))
    assert len(set(cards)) == 1
    card, metrics = ModelCard(cards[0]), record["metrics"]
    assert card.data.license == "cc-by-4.0" and card.data.base_model is None, (
        "mini is no model of the hub"
    )
    for one in card.data.eval_results:
        way = "text_to_visual" if one.task_type == "text-to-image-retrieval" else "visual_to_text"
        assert one.metric_value == round(metrics[way][one.metric_name], 2)
        interval = [round(end, 2) for end in metrics["intervals"][way][one.metric_name]]
        assert one.metric_args == {"texts": 5000, "items": 1000, "95 % interval": interval}
        assert (one.dataset_name, one.dataset_split) == ("mini-flickr30k", "test")
    assert len(card.data.eval_results) == 6 and card.data.model_name == "scenes"
    recall = metrics["text_to_visual"]["R@1"]
    low, high = metrics["intervals"]["text_to_visual"]["R@1"]
    steps = record["total_steps"]
    for said in (
        f"| text to image | {recall:.1f} [{low:.1f}, {high:.1f}] |",
        "5,000 texts, 1,000 items",
        "| seed | 42 |",
        "| lr | 0.01 |",
        "| precision | float32 |",
        f"| commit | {record['commit']} |",
        f"epochs × steps: 1 × {steps} = {steps} steps. Kept: epoch 1 of 1.",
        "Not measured. An adapter can lower the recall",
        'cma.RetrievalModel.from_adapter("scenes")',
    ):
        assert said in card.text, said


def test_the_card_tells_what_is_forgotten_and_what_is_not_known(mini, tmp_path):
    record = recorded() | {"backbone": identity(mini.clip)}
    difference = {
        "text_to_visual": [-3.25, -4.5, -2.0, 0.001],
        "visual_to_text": [0.5, -0.5, 1.5],
    }
    record["forgetting"] = {"dataset": "pretraining-drawings", "difference": difference}
    mini.save_adapter(tmp_path, "a", record)
    text = (tmp_path / "README.md").read_text("utf-8")
    assert "R@1 on pretraining-drawings" in text
    assert "- text to image: -3.2 [-4.5, -2.0]\n- image to text: +0.5 [-0.5, 1.5]\n" in text
    mini.save_adapter(tmp_path, "a", record | {"metrics": {}})
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.license == "unknown" and data.eval_results is None
    mini.save_adapter(tmp_path, "a")
    text = (tmp_path / "README.md").read_text("utf-8")
    assert text.count("Not measured.") == 2 and "Not recorded." in text


def test_what_is_no_record_of_the_adapter_is_refused_before_anything_is_written(
    mini, model, tmp_path
):
    record, empty = recorded() | {"backbone": identity(mini.clip)}, tmp_path / "empty.json"
    empty.write_text("[]")
    for wrong, said in (
        (record | {"method": "CoOp"}, "of .*CoOp.*, but the adapter is .*cross-modal adapter"),
        (record | {"backbone": {"name": "mini", "revision": "0"}}, "of .*, but the adapter is "),
        (record | {"selected_epoch": None}, "after epoch None, but the adapter is"),
        (record | {"metrics": {"split": "test"}}, "text_to_visual"),
        (record | {"forgetting": 3}, "dataset"),
        (3, "to_json"),
        (empty, r"empty\.json: expected an object"),
    ):
        with one_line(ValueError, f"^record: .*{said}.*; expected that of the run which"):
            mini.save_adapter(tmp_path / "a", "a", wrong)
        assert not (tmp_path / "a").exists()
    with pytest.raises(FileNotFoundError, match=r"nothing\.json: no such file"):
        mini.save_adapter(tmp_path / "a", "a", tmp_path / "nothing.json")


# ---- a stranger's files


def packed(header, numbers):
    """A safetensors file of a header and numbers."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + numbers


def mutated(name, content, random):
    """(what was done, the file `name` after it). Other JSON: tests/core/test_checkpoints."""
    header = 8 + int.from_bytes(content[:8], "little") if name == WEIGHTS else len(content)
    kind = random.choice(("flip", "flip in the header", "cut", "insert", "repeat", "zeros"))
    at = random.randrange(header if kind == "flip in the header" else len(content))
    if kind.startswith("flip"):
        return kind, content[:at] + bytes([content[at] ^ 1 << random.randrange(8)]) + content[
            at + 1 :
        ]
    if kind == "cut":
        return kind, content[:at]
    if kind == "insert":
        return kind, content[:at] + random.randbytes(random.randint(1, 9)) + content[at:]
    if kind == "repeat":
        return kind, content[:at] + content[at - 4 : at] * 2 + content[at:]
    return kind, content[:at] + bytes(min(8, len(content) - at)) + content[at + 8 :]


@pytest.mark.parametrize("count, seed", [(200, 7), pytest.param(1800, 8, marks=pytest.mark.night)])
@pytest.mark.filterwarnings("ignore:.*trained on")
def test_damaged_adapters_are_refused_in_one_line_or_compute_the_same(tmp_path, count, seed):
    model = with_adapters(build_clip(1, 1), None)
    for name in (CONFIG, WEIGHTS):  # in each folder, one file is damaged
        model.save_adapter(tmp_path / name, "a")
    model.set_adapter("a")
    whole, right = (
        {name: (tmp_path / name / name).read_bytes() for name in (CONFIG, WEIGHTS)},
        embed(model),
    )
    random, loaded = Random(seed), Counter()
    for number in range(count):
        name = random.choice((CONFIG, WEIGHTS))
        kind, content = mutated(name, whole[name], random)
        (tmp_path / name / name).unlink()  # faster than to write into it
        (tmp_path / name / name).write_bytes(content)
        try:
            model.load_adapter(tmp_path / name, "stranger")
        except Exception as error:
            assert type(error) in (ValueError, FileNotFoundError), (number, kind, name)
            assert "\n" not in str(error) and str(tmp_path) in str(error), (
                number,
                kind,
                name,
                str(error),
            )
        else:
            assert same(embed(model), right), (number, kind, name, content[:300])
            loaded[name, kind] += 1
            model.remove_adapter("stranger")
    assert list(model.adapters) == ["a", "b"]
    assert 0 < sum(loaded.values()) < 0.1 * count, loaded
    model.set_adapter("a")
    assert same(embed(model), right), "what was refused has left no trace"


def no_memory(*_):
    raise AssertionError("memory was taken for what is not to be loaded")


def test_weights_that_claim_terabytes_other_names_or_another_type_are_refused(
    model, tmp_path, monkeypatch
):
    model.save_adapter(tmp_path, "a")
    content = (tmp_path / WEIGHTS).read_bytes()
    size = 8 + int.from_bytes(content[:8], "little")
    header, numbers = json.loads(content[8:size]), content[size:]
    first = next(key for key in header if "weight" in key)  # not all zeros
    entry, end = (
        header[first],
        max(one["data_offsets"][1] for key, one in header.items() if key[0] != "_"),
    )
    long = {"dtype": "F32", "shape": [2**40], "data_offsets": [end, end + 2**42]}
    for changed, said in (
        (header | {first: entry | {"shape": [2**40, 2**20]}}, "overflow"),
        (header | {"huge": long}, "header"),
        (header | {first: entry | {"dtype": "I32"}}, "its digest differs"),
        ({("../" + key if key == first else key): one for key, one in header.items()}, "digest"),
    ):
        (tmp_path / WEIGHTS).write_bytes(packed(changed, numbers))
        with pytest.raises(ValueError, match=f"{WEIGHTS}: damaged, or does not fit .*{said}"):
            model.load_adapter(tmp_path, "c")
    monkeypatch.setattr(checkpoints, "load", no_memory)
    for name in (WEIGHTS, CONFIG):
        with (tmp_path / name).open("r+b") as file:
            file.truncate(2**40)  # a sparse file: no disk is filled
        with pytest.raises(ValueError, match=f"{name}: .*1,099,511,627,776 bytes"):
            model.load_adapter(tmp_path, "c")
