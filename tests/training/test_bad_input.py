"""Settings, data and folders that a run cannot use: one line each, before the first step."""

import os

import pytest
import torch

import cma
from cma import AdapterConfig, TrainConfig, recipes
from cma.data import load
from cma.training import loop
from tests.toy_data import write_images


@pytest.fixture
def config(config, monkeypatch):
    """No step may be taken with it."""
    monkeypatch.setattr(loop, "train_step", lambda *_: pytest.fail("a step was taken"))
    return config


def refused(function, *arguments) -> str:
    """The message of a ValueError, which has to be one line."""
    with pytest.raises(ValueError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("given", [0, -1])
def test_a_micro_batch_has_a_pair_at_least(given):
    said = refused(lambda: TrainConfig(micro_batch=given))
    assert said == f"micro_batch={given}: expected greater than or equal to 1"


def test_a_recipe_for_a_wider_backbone_names_both_widths(make_model):
    """ActivityNet's adapter shares 512 rows: more than the 32 of this text encoder."""
    said = refused(make_model().add_adapter, "b", recipes.recipe("activitynet").adapter_config())
    assert said.startswith("shared_dim 512 exceeds the vision width 48")


def test_an_adapter_of_another_width_is_named_with_its_backbone(make_model, tmp_path, toy_processor):
    wide = make_model()
    wide.save_adapter(tmp_path, "a")
    (tmp_path / "adapter_config.json").write_text(
        (tmp_path / "adapter_config.json").read_text().replace('"vision": 48', '"vision": 768')
    )
    said = refused(make_model().load_adapter, tmp_path, "b")
    assert "adapter_config.json: widths {'vision': 768, 'text': 32} do not fit this backbone's" in said


def saved_run(folder, config, make_model) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train_step", really)
        cma.train(make_model(), load(folder, "train"), config)


really = loop.train_step


def test_a_checkpoint_of_another_precision_or_adapter_is_refused(folder, config, make_model):
    config = config.merge({"epochs": 1})
    saved_run(folder, config, make_model)
    said = refused(cma.train, make_model(), load(folder, "train"), config.merge({"precision": "fp16"}))
    assert "r holds another run (precision 'float32' there, 'fp16' here); choose another name" in said
    model = make_model()
    model.add_adapter("b", AdapterConfig(bottleneck_dim=2, shared_dim=8))
    model.set_adapter("b")
    said = refused(cma.train, model, load(folder, "train"), config)
    assert "r holds another run (adapter {'bottleneck_dim': 4" in said


def test_a_checkpoint_of_an_older_format_is_refused_and_stays(folder, config, make_model):
    config = config.merge({"epochs": 1})
    saved_run(folder, config, make_model)
    path = config.runs_dir / "r" / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    content["format"] = 2  # a field of an earlier version
    torch.save(content, path)
    before = path.read_bytes()
    said = refused(cma.train, make_model(), load(folder, "train"), config)
    assert (
        "checkpoint.pt: no checkpoint of this version of cma.train, or cut short; choose another name" in said
    )
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "items, settings, said",
    [
        (24, {"batch_size": 1}, "toy: 48 captions in batches of 1; one pair has no negatives"),
        (1, {"epoch_unit": "items"}, "toy: 1 items in batches of 8; one pair has no negatives"),
    ],
)
def test_a_batch_of_one_pair_would_teach_nothing(folder, config, make_model, items, settings, said):
    train_set = load(folder, "train").subset(items)
    assert refused(cma.train, make_model(), train_set, config.merge(settings)).startswith(said)


def test_a_set_smaller_than_a_batch_and_an_uneven_micro_batch_train(config, make_model, tmp_path, capsys):
    """Six captions in batches of 128, five at once: one step an epoch."""
    folder = write_images(tmp_path / "data", {"train": 3, "test": 4})
    config = config.merge({"batch_size": 128, "micro_batch": 5, "select_on": "last"})
    saved_run(folder, config, make_model)
    assert "1 steps of 6 (0 left over)" in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a folder that cannot be written to")
def test_a_read_only_folder_is_named_before_the_first_step(folder, config, make_model):
    config.runs_dir.mkdir(mode=0o500)
    with pytest.raises(
        OSError, match=r"^.*runs.r: cannot be written to \(.*choose another runs_dir or name$"
    ):
        cma.train(make_model(), load(folder, "train"), config)
