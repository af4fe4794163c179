"""An exported model embeds, in sentence-transformers, what ours embeds here."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from sentence_transformers import SentenceTransformer

import cma
import cma.export
from cma import RetrievalModel, load_backbone
from tests.conftest import WORDS, one_line, randomise
from tests.toy_families import KINDS, build_backbone, build_family_processor

TEXTS = ["a red cat", "a dog runs", " ".join(WORDS.split()[:9] * 9)]  # the last one is cut
PICTURES = [Image.new("RGB", (50, 40), colour) for colour in ("red", "green", "#123456")]


def embeddings(model: RetrievalModel) -> list[torch.Tensor]:
    with torch.no_grad():
        return [model.encode_text(TEXTS), model.encode_images(PICTURES)]


def differences(model: RetrievalModel, theirs: SentenceTransformer) -> list[float]:
    found = [theirs.encode(TEXTS), theirs.encode(PICTURES)]
    return [
        float(np.abs(a.numpy() - b).max()) for a, b in zip(embeddings(model), found, strict=True)
    ]


@pytest.mark.filterwarnings("ignore:.*the rest is not read")
@pytest.mark.parametrize(
    "method",
    [name for name in cma.methods.NAMES if name != "ST-Adapter"],  # which is for clips
)
def test_every_method_embeds_the_same_there_and_after_their_saving(model, method, tmp_path):
    cma.methods.attach(model, method, "one")
    randomise(model.get_adapter("one"))
    if model.get_adapter("one").scales:
        model.set_adapter("one", 0.5)
    theirs = cma.export.sentence_transformer(model, tmp_path / "exported")
    assert max(differences(model, theirs)) < 1e-5
    assert theirs.similarity(theirs.encode(["a cat"]), theirs.encode(["a cat"])).item() == (
        pytest.approx(1)
    )
    theirs.save_pretrained(str(tmp_path / "again"))
    again = SentenceTransformer(str(tmp_path / "again"))
    assert max(differences(model, again)) < 1e-5
    assert {file.name for file in tmp_path.iterdir()} == {"exported", "again"}


@pytest.mark.filterwarnings("ignore:.*the rest is not read")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("adapted", [True, False])
def test_every_family_embeds_the_same_there(kind, adapted, tmp_path):
    model = RetrievalModel(build_backbone(kind), build_family_processor(kind))
    if adapted:
        randomise(model.add_adapter("one", cma.AdapterConfig(shared_dim=8)))
    theirs = cma.export.sentence_transformer(model, tmp_path / "exported")
    assert max(differences(model, theirs)) < 1e-5


def test_only_the_adapter_trains_there(model, tmp_path):
    adapter = model.add_adapter("one", cma.AdapterConfig(shared_dim=8))
    cma.export.sentence_transformer(model, tmp_path / "exported")
    theirs = SentenceTransformer(str(tmp_path / "exported"))
    trained = [p.numel() for p in theirs.parameters() if p.requires_grad]
    assert sum(trained) == sum(p.numel() for p in adapter.parameters())
    theirs(theirs.preprocess(["a cat"]))["sentence_embedding"].sum().backward()
    trained = theirs[0].model.retrieval.get_adapter("adapter")
    assert trained.text.down_weight.grad is not None


def test_another_process_needs_one_import_and_no_trust(model, tmp_path):
    randomise(model.add_adapter("one", cma.AdapterConfig(shared_dim=8)))
    cma.export.sentence_transformer(model, tmp_path / "exported")
    code = (
        "import cma.export, sys; from sentence_transformers import SentenceTransformer;"
        "print(SentenceTransformer(sys.argv[1]).encode(['a red cat'])[0].tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "exported")],
        capture_output=True,
        text=True,
        check=True,
    )
    found = torch.tensor(eval(done.stdout.splitlines()[-1]))
    assert torch.allclose(found, embeddings(model)[0][0], atol=1e-5)


def test_their_clip_is_a_backbone_of_ours(model, tmp_path):
    cma.export.sentence_transformer(model, tmp_path / "plain")
    assert not (tmp_path / "plain" / "adapter_config.json").exists()
    theirs = RetrievalModel(*load_backbone(tmp_path / "plain"))
    for ours, found in zip(embeddings(model), embeddings(theirs), strict=True):
        assert torch.equal(ours, found)
    old = tmp_path / "old"  # how releases before 5.4 save a CLIP
    old.mkdir()
    (tmp_path / "plain").rename(old / "0_CLIPModel")
    assert load_backbone(old)[0].config.model_type == "clip"


def test_what_cannot_be_exported_is_one_line(model, toy_clip, tmp_path):
    (tmp_path / "there").mkdir()
    with one_line(FileExistsError, "expected the name of a new folder"):
        cma.export.sentence_transformer(model, tmp_path / "there")
    with one_line(ValueError, "no processor"):
        cma.export.sentence_transformer(RetrievalModel(toy_clip), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    theirs = cma.export.sentence_transformer(model, tmp_path / "new")
    model.add_adapter("one", cma.AdapterConfig(shared_dim=8))
    theirs = cma.export.sentence_transformer(model, tmp_path / "adapted")
    with one_line(ValueError, "one embedding per frame"):
        theirs[0].model.get_image_features(torch.zeros(1, 2, 3, 32, 32))
    with one_line(ValueError, "load its backbone"):
        load_backbone(tmp_path / "adapted")


def test_without_the_library_or_with_an_old_one_one_line_says_so(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers.base.modules", None)
    with one_line(ImportError, "5.4 or newer"):
        cma.export.sentence_transformer(model, tmp_path / "new")
