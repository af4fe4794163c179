"""What the tests share: a random CLIP built in code, and a real processor for it. No network, no
files.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # a process for each core, so one thread each
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import huggingface_hub
import pytest
import torch
import transformers
from hypothesis import settings
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

import data_prep  # noqa: F401 (first: it says so if another package called `cma` is found)
from cma import AdapterConfig, RetrievalModel, log_to_stdout
from tests import ROOT
from tests.hub_server import Hub, serving

log_to_stdout()  # as the programs and notebooks do
settings.register_profile("push", max_examples=15, deadline=None)
settings.register_profile("night", max_examples=300, deadline=None)
settings.load_profile("push")
NOT_FAST = {"processes", "minis", "book", "browser", "slow", "wheel", "night"}
# of the book and the browser, in this order: a worker builds the book while the other writes a page
LONGEST = ("test_book", "test_page_without_server", "test_app_page", "test_lab", "test_front_end")
NO_BROWSER = "no Chromium found: browser test skipped (make browser installs one)"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is fast. Workers get what takes long first, and last the browser, whose loop would
    be in the way of others.
    """

    def turn(item: pytest.Item) -> int:
        marks = {mark.name for mark in item.iter_markers()}
        if not marks & NOT_FAST:
            item.add_marker("fast")
        if marks & {"book", "browser"}:
            return 2 + [*LONGEST, item.path.stem].index(item.path.stem)
        return 0 if marks & NOT_FAST or item.path.suffix == ".ipynb" else 1

    items.sort(key=turn)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it once for all of the tests that had no browser."""
    skipped = terminalreporter.stats.get("skipped", [])
    if any(NO_BROWSER in str(report.longrepr) for report in skipped):
        terminalreporter.write_line(NO_BROWSER)


VOCABULARY, CONTEXT, PAD, SOS, EOS = 500, 16, 0, 498, 499
ADAPTER = AdapterConfig(bottleneck_dim=4, shared_dim=8, init_std=0.3)  # large enough to see
# the learnt tokens depend on its line breaks
WORDS = (
    "a an the and of on in at with two "
    "three red green blue yellow white black small large round square\n"
    "circle cat dog bird horse car boat tree house flower "
    "star sun moon face hand man woman child person runs\n"
    "sits jumps eats sings plays walking flying smiling "
    "holding street water beach sky night grass table"
)


def build_clip(vision_layers: int = 3, text_layers: int = 3, eos_token_id: int = EOS) -> CLIPModel:
    """A random CLIP: widths 48 and 32, projection 32, 32 px in patches of 8; no bias is 0, no norm
    is 1.
    """
    text = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "num_hidden_layers": text_layers,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": SOS,
        "eos_token_id": eos_token_id,
        "pad_token_id": PAD,
    }
    vision = {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_attention_heads": 2,
        "num_hidden_layers": vision_layers,
        "image_size": 32,
        "patch_size": 8,
    }
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=32)
    clip = CLIPModel(config).eval()
    randomise(clip)
    return clip


def randomise(clip: PreTrainedModel) -> None:
    """Draw every weight but those of the logits; no bias is 0, no norm is 1."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in clip.named_parameters():
            if not name.startswith("logit_"):
                centre = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15 + centre)


def build_processor() -> CLIPProcessor:
    """A byte-level BPE that knows WORDS (any other word costs a token a byte) and a 32-px image
    processor.
    """
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=SOS, special_tokens=["<pad>"], initial_alphabet=alphabet, show_progress=False
    )
    learnt.train_from_iterator([WORDS], trainer)
    bpe = json.loads(learnt.to_str())["model"]
    vocabulary = bpe["vocab"] | {f"<unused{i}>": i for i in range(len(bpe["vocab"]), SOS)}
    vocabulary |= {"<sos>": SOS, "<eos>": EOS}
    tokens = Tokenizer(
        models.BPE(vocab=vocabulary, merges=[tuple(merge) for merge in bpe["merges"]])
    )
    tokens.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokens.pre_tokenizer = learnt.pre_tokenizer
    tokens.decoder = decoders.ByteLevel()
    tokens.post_processor = processors.TemplateProcessing(
        single="<sos> $A <eos>", special_tokens=[("<sos>", SOS), ("<eos>", EOS)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        bos_token="<sos>",
        eos_token="<eos>",
        pad_token="<pad>",
        model_max_length=CONTEXT,
    )
    image_processor = (
        getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
    )
    images = image_processor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return CLIPProcessor(images, tokenizer)


def with_adapters(clip: CLIPModel, processor: CLIPProcessor) -> RetrievalModel:
    """A model with the adapters a and b, of `ADAPTER`; neither is active."""
    model = RetrievalModel(clip, processor)
    torch.manual_seed(0)
    for name in ("a", "b"):
        model.add_adapter(name, ADAPTER)
    model.set_adapter(None)
    return model


def same(ours: Iterable[torch.Tensor], theirs: Iterable[torch.Tensor]) -> bool:
    """Whether these are the same tensors, bit for bit."""
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def same_state(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    """Whether these are the same tensors by the same names."""
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def change_json(file: Path, **changes: object) -> None:
    """Give the object in a JSON file other values."""
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@contextmanager
def one_line(kind, match: str) -> Iterator[pytest.ExceptionInfo]:
    """As `pytest.raises`; the error is one line."""
    with pytest.raises(kind, match=match) as error:
        yield error
    assert "\n" not in str(error.value)


@pytest.fixture
def toy_clip() -> CLIPModel:
    """A fresh random CLIP of 3 + 3 layers."""
    return build_clip()


@pytest.fixture(scope="session")
def toy_processor() -> CLIPProcessor:
    """The processor of `toy_clip`."""
    return build_processor()


@pytest.fixture
def clip_folder(toy_clip: CLIPModel, toy_processor: CLIPProcessor, tmp_path: Path) -> Path:
    """The folder of `toy_clip` and its processor."""
    for part in (toy_clip, toy_processor):
        part.save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


@pytest.fixture
def model(toy_clip: CLIPModel, toy_processor: CLIPProcessor) -> RetrievalModel:
    """A toy CLIP `with_adapters`."""
    return with_adapters(toy_clip, toy_processor)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub in this process; the client talks to it alone, and keeps what it fetches there."""
    with serving() as server:
        for name, value in {
            "ENDPOINT": server.address,
            "HUGGINGFACE_CO_URL_TEMPLATE": server.address
            + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_HUB_OFFLINE": False,
            "HF_TOKEN_PATH": str(tmp_path / "no-token"),
        }.items():
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        monkeypatch.setenv("HF_TOKEN", server.token)
        yield server


@pytest.fixture(scope="session")
def executable() -> Path:
    """The Chromium to drive. Without one the tests are skipped; where CMA_BROWSER is "required"
    they fail.
    """
    from tests.explorer.browser import chromium

    found = chromium.find()
    if found is None and os.environ.get("CMA_BROWSER") == "required":
        pytest.fail("no Chromium found, and CMA_BROWSER=required (make browser installs one)")
    if found is None:
        pytest.skip(NO_BROWSER)
    return found


@pytest.fixture(scope="session")
def browser(executable: Path) -> Iterator:
    """That Chromium, running: one for all tests of a worker."""
    from tests.explorer.browser import chromium

    with chromium.launched(executable) as browser:
        yield browser


@pytest.fixture(scope="session")
def kept() -> Path:
    """The folder for all that the browser tests of this worker leave, emptied."""
    folder = ROOT / "runs" / "browser" / os.environ.get("PYTEST_XDIST_WORKER", "alone")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
