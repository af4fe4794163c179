"""Methods beside each other and beside adapters: strengths, copies, records, runs, indexes, your
own.
"""

import operator
import sys

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from cma import RetrievalModel, TrainConfig, train
from cma.data import load as load_data
from cma.method import CrossModalAdapter
from cma.methods import NAMES, Method, attach, class_of
from cma.methods.tuning import Replaced
from cma.training import RunRecord, prepare
from tests.conftest import build_clip, one_line
from tests.methods.conftest import FRAMES, build, embed, hooks, move
from tests.toy_data import write_images
from tests.toy_media import write_videos

# millions of trained parameters in the paper's tables; LoRA and the last two have no row there
PAPER = {
    "zero-shot": 0,
    "full fine-tuning": 123.5,
    "partial": 10.2,
    "projection": 0.7,
    "CoOp": 0.002,
    "VPT": 0.05,
    "VL-Prompt": 0.08,
    "MaPLe": 4.8,
    "Adapter-ATTN": 2.0,
    "AdaptFormer": 2.0,
    "ST-Adapter": 7.2,
    "cross-modal adapter": 0.5,
}


def test_trained_parameters_are_the_papers():
    with torch.device("meta"):
        model = RetrievalModel(CLIPModel(CLIPConfig()))
    for i, method in enumerate(NAMES):
        attach(model, method, f"m{i}")
        count = sum(p.numel() for p in model.trainable_parameters()) / 1e6
        if method in PAPER:
            digits = len(str(PAPER[method]).partition(".")[2])
            near = abs(count - PAPER[method]) <= 0.05 * PAPER[method]
            assert near or round(count, digits) == PAPER[method], (method, count)
    for method in ("Adapter-ATTN", "AdaptFormer"):
        image = attach(model, method, f"{method} for pictures", bottleneck_dim=16)
        assert round(sum(p.numel() for p in image.parameters()) / 1e6, 1) == 0.5


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_videos(tmp_path_factory.mktemp("toy") / "data", {"train": 4, "val": 2, "test": 2})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("toy") / "data", {"train": 8, "val": 4, "test": 4})


def test_a_strength_between_is_a_blend_of_weights_or_refused():
    model = build("full fine-tuning", moved=True)
    tuned, own = dict(model.adapters["m"].named_parameters()), build_clip()
    for name, parameter in own.named_parameters():
        if (key := name.replace(".", "/")) in tuned:
            parameter.data.lerp_(tuned[key].detach(), 0.3)
    model.set_adapter("m", 0.3)
    assert all(map(torch.equal, embed(model), embed(RetrievalModel(own))))
    with pytest.raises(ValueError, match="full fine-tuning: trains at scale 1, not 0.3"):
        prepare(model, TrainConfig())
    attach(model, "VPT", "prompts")
    model.set_adapter("m", 0.3)
    with pytest.raises(ValueError, match="VPT: acts or does not; scale must be 1 or 0, not 0.3"):
        model.set_adapter("prompts", 0.3)
    assert (model.active, model.scale) == ("m", 0.3)
    assert all(map(torch.equal, embed(model), embed(RetrievalModel(own))))


def test_a_record_counts_each_tensor_once_and_holds_the_options(folder):
    dataset, size = load_data(folder, "train"), sum(p.numel() for p in build_clip().parameters())
    for method, added in (
        ("full fine-tuning", 0),
        ("projection", 0),
        ("CoOp", 4 * 32),
        ("zero-shot", 0),
    ):
        record = RunRecord.describe(build(method), dataset, TrainConfig())
        assert (record.method, record.total_parameters) == (method, size + added)
    assert RunRecord.describe(build("CoOp"), dataset, TrainConfig()).adapter["tokens"] == 4
    options = RunRecord.describe(build("LoRA"), dataset, TrainConfig()).adapter
    assert options["targets"] == ["q_proj", "v_proj"]
    with pytest.raises(
        ValueError, match="ST-Adapter: cannot do image data: its convolution runs over"
    ):
        RunRecord.describe(build("ST-Adapter"), dataset, TrainConfig())
    with pytest.raises(ValueError, match="zero-shot: has nothing to train"):
        prepare(build("zero-shot"), TrainConfig())


@pytest.mark.parametrize("method", [name for name in NAMES if name != "zero-shot"])
def test_a_run_is_trained_known_again_and_kept(
    method, folder, clips, tmp_path, toy_processor, capsys, monkeypatch
):
    # a curve takes most of the time of a toy run
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    source, frames = (clips, 3) if method == "ST-Adapter" else (folder, 1)
    config = TrainConfig(
        epochs=2, batch_size=4, epoch_unit="items", lr=1e-2, max_frames=frames, cache=True
    )
    config, records = config.merge({"runs_dir": tmp_path}), []
    dataset = load_data(source, "train").subset(4)
    for _ in range(2):
        model = RetrievalModel(build_clip(), toy_processor)
        attach(model, method, "m")
        start = embed(model)
        records.append(train(model, dataset, config).to_json())
        assert not all(map(torch.equal, embed(model), start))
    assert records[0] == records[1] and "was finished" in capsys.readouterr().out
    kept = RetrievalModel(build_clip())
    assert method == kept.load_adapter(tmp_path / "run", "kept").NAME
    assert all(map(torch.equal, embed(kept), embed(model)))
    attach(model, "partial" if method == "VPT" else "VPT", "v")
    with pytest.raises(ValueError, match="holds another run .*method"):
        train(model, dataset, config)
    train(model, dataset, config.merge({"if_exists": "replace", "epochs": 1}))
    assert kept.load_adapter(tmp_path / "run", "replaced").NAME == model.get_adapter("v").NAME


def test_a_backbone_in_half_precision_cannot_be_tuned():
    with pytest.raises(
        ValueError, match="projection: needs a float32 backbone, not torch.bfloat16"
    ):
        attach(RetrievalModel(build_clip().to(torch.bfloat16)), "projection", "m")
    model = RetrievalModel(build_clip().to(torch.bfloat16))
    for method in ("AdaptFormer", "ST-Adapter", "VL-Prompt", "LoRA"):
        attach(model, method, method)
        assert model.encode_videos(FRAMES).dtype == torch.bfloat16
        assert {p.dtype for p in model.trainable_parameters()} == {torch.float32}


class Own(Method):
    """A method of one's own: it adds a parameter, times constants, to the pictures' embedding."""

    NAME = "own"

    def __init__(self, model, options):
        super().__init__(model, options)
        self.vector = torch.nn.Parameter(torch.zeros(32))
        self.mask = torch.ones(32)
        self.register_buffer("halved", torch.full((32,), 0.5), persistent=False)

    def install(self, clip, scale):
        change = scale * self.halved * self.mask * self.vector
        yield clip.visual_projection.register_forward_hook(lambda *call: call[-1] + change)


def test_a_method_of_your_own_acts_and_is_loaded_as_it_was_trained(tmp_path):
    model = build(Own)
    plain = embed(model)[1]
    move(model.adapters["m"])
    model.set_adapter("m", 2.0)
    before = embed(model)
    torch.testing.assert_close(before[1], plain + model.adapters["m"].vector.detach())  # 2 · 0.5
    model.save_adapter(tmp_path, "m")
    model.load_adapter(tmp_path, "again")
    model.set_adapter("again", 2.0)
    assert all(map(torch.equal, embed(model), before))


def sums(self, model, options):
    Method.__init__(self, model, options)
    self.total = float(torch.ones(3).sum())


def other_arguments(self, model):
    Method.__init__(self, model, None)


def yields_nothing(self, clip, scale):
    yield from ()


def returns_a_handle(self, clip, scale):
    return clip.visual_projection.register_forward_hook(lambda *call: call[-1] + 1)


def yields_no_handle(self, clip, scale):
    yield returns_a_handle(self, clip, scale)
    yield None


def fails_half_way(self, clip, scale):
    yield returns_a_handle(self, clip, scale)
    yield Replaced(clip.text_projection, "weight", torch.nn.Parameter(torch.zeros(1)))
    raise ValueError("no more")


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"__init__": sums}, ValueError, "own: cannot be built from shapes alone: .* reads no ten"),
        ({"__init__": other_arguments}, ValueError, r"expected `__init__\(self, model, options\)`"),
        ({"Options": object}, TypeError, "Wrong.Options: expected a cma.files.checked_dataclass"),
        ({"install": yields_nothing}, TypeError, "own: install yielded nothing, so its parameters"),
        ({"install": returns_a_handle}, TypeError, "Wrong.install must yield a handle after each"),
        ({"install": yields_no_handle}, TypeError, "own: install yielded None; expected handles"),
        ({"install": fails_half_way}, ValueError, "no more"),
    ],
)
def test_a_method_that_could_not_be_kept_or_removed_is_refused_at_once(model, changed, error, said):
    model.set_adapter("a")
    before, parameters = embed(model), list(model.clip.parameters())
    with pytest.raises(error, match=said) as raised:
        attach(model, type("Wrong", (Own,), changed), "mine")
    assert "\n" not in str(raised.value) and list(model.adapters) == ["a", "b"]
    assert model.active == "a" and all(map(torch.equal, embed(model), before))
    model.set_adapter(None)
    assert hooks(model) == 0
    assert all(map(operator.is_, model.clip.parameters(), parameters))


def test_a_method_that_fails_leaves_its_name_free_and_its_mended_class_is_found(model):
    class Shift(Method):
        NAME = "mended later"

    with one_line(TypeError, "^Shift has no `install"):
        attach(model, "mended later", "mine")
    assert list(model.adapters) == ["a", "b"] and model.active is None

    broken = Shift  # a notebook keeps the old class, too

    class Shift(Method):
        NAME = "mended later"

        def install(self, clip, scale):
            yield from ()

    assert type(attach(model, "mended later", "mine")) is Shift is not broken
    assert model.active == "mine"

    class Nameless(Method):
        def install(self, clip, scale):
            yield clip.visual_projection.register_forward_hook(lambda *call: call[-1] + 1)

    with one_line(TypeError, '^Nameless has no NAME; give it one: NAME = "…"$'):
        attach(model, Nameless, "other")
    with one_line(TypeError, "^Linear: expected a class of cma.methods.Method$"):
        attach(model, torch.nn.Linear, "other")
    model.set_adapter(None)
    plain = embed(model)[1]
    Nameless.NAME = "named"
    attach(model, Nameless, "other")
    assert not torch.equal(embed(model)[1], plain)
    model.set_adapter(None)
    assert torch.equal(embed(model)[1], plain)


@pytest.mark.parametrize("name", ["LoRA", "cross-modal adapter"])
def test_a_name_of_ours_cannot_be_taken(name):
    before = class_of(name)
    with one_line(TypeError, rf"^Mine: NAME = '{name}' is that of cma\."):
        type("Mine", (Method,), {"NAME": name})
    assert class_of(name) is before


def test_a_class_of_your_own_that_derives_from_ours_keeps_its_name(model, tmp_path, monkeypatch):
    class TextAlone(CrossModalAdapter):
        NAME = "text alone"

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert attach(model, TextAlone, "mine").NAME == "text alone"
    model.save_adapter("~/adapter", "mine")
    assert type(model.load_adapter("~/adapter", "again")) is TextAlone
