"""`import cma`: what it brings, what it leaves alone, and the other distribution of that name."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT


def python(code: str, *path: Path) -> subprocess.CompletedProcess:
    """Run code in a fresh interpreter with these folders first on its path."""
    program = f"import sys; sys.path[:0] = {[str(folder) for folder in path]}; {code}"
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, cwd="/"
    )


@pytest.fixture
def namesake(tmp_path):
    """What pip leaves of the CMA-ES optimiser: its metadata, and a package called cma."""
    (tmp_path / "cma-4.0.0.dist-info").mkdir()
    (tmp_path / "cma-4.0.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: cma\nVersion: 4.0.0\n"
    )
    (tmp_path / "cma").mkdir()
    (tmp_path / "cma" / "__init__.py").write_text("def fmin(): ...\n")
    return tmp_path


def test_import_leaves_heavy_things_alone():
    heavy = ["matplotlib", "IPython", "ipywidgets", "jupyter", "decord", "av", "data_prep", "papermill"]
    heavy += [
        "anywidget",
        "faiss",
        "nbformat",
        "playwright",
        "voila",
        "torch",
        "transformers",
        "numpy",
        "PIL",
    ]
    run = python(f"import cma; print([m for m in {heavy} if m in sys.modules])", ROOT)
    assert run.stdout.strip() == "[]", run.stderr


def test_a_server_is_imported_only_to_serve():
    run = python(
        "import cma.explore.app; print([m for m in ('voila', 'jupyter_server') if m in sys.modules])", ROOT
    )
    assert run.stdout.strip() == "[]", run.stderr


def test_import_exposes_the_submodules():
    import cma

    for path in Path(cma.__path__[0]).iterdir():
        if path.suffix == ".py" and path.stem != "__init__" or (path / "__init__.py").is_file():
            assert getattr(cma, path.stem).__name__ == f"cma.{path.stem}"
            assert path.stem in dir(cma)
    assert cma.load_dataset is cma.data.load and callable(cma.load_backbone) and callable(cma.train)
    assert cma.MediaIndex is cma.search.MediaIndex and cma.Explorer is cma.explore.Explorer
    assert cma.evaluate is cma.training.evaluate and cma.ReadConfig is cma.config.ReadConfig
    assert cma.RetrievalModel is cma.model.RetrievalModel
    assert cma.train.__module__ == "cma.training.loop"
    assert cma.__version__
    with pytest.raises(AttributeError, match="nothing"):
        cma.nothing  # noqa: B018


def test_a_missing_extra_is_named_with_the_command_that_installs_it():
    import cma

    cma.require("video", "json", "csv")
    with pytest.raises(ImportError) as caught:
        cma.require("video", "json", "no_such_module", "nor_this")
    message = "no_such_module, nor_this: not installed; run `pip install 'cross-modal-adapter[video]'`"
    assert str(caught.value) == message


def test_the_namesake_beside_ours_is_refused_with_the_remedy(namesake):
    run = python("import cma", ROOT, namesake)  # ours is found first
    assert run.returncode and "ImportError" in run.stderr
    assert "cma` 4.0.0" in run.stderr and "pip uninstall cma" in run.stderr


def test_the_namesake_before_ours_is_noticed(namesake):
    code = "import data_prep"
    run = python(code, namesake, ROOT)  # theirs is found first
    assert run.returncode and "ImportError" in run.stderr and "pip uninstall cma" in run.stderr
    assert str(namesake) in run.stderr
    assert python(code, ROOT).returncode == 0
