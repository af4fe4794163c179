"""`import cma`: what it brings, what it leaves alone, and the other distribution of that name."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import cma
from cma.files import write_whole
from tests import ROOT
from tests.core.sources import FILES


def python(code: str, *path: Path) -> subprocess.CompletedProcess:
    """Run code in a fresh interpreter with these folders first on its path."""
    program = f"import sys; sys.path[:0] = {[str(folder) for folder in path]}; {code}"
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300, cwd="/"
    )


HEAVY = "matplotlib IPython ipywidgets jupyter decord av data_prep papermill anywidget nbformat"
HEAVY += " playwright"


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("cma", f"{HEAVY} tornado torch transformers numpy PIL"),
        ("explorer", "tornado jupyter_server"),  # a server is imported only to serve
    ],
)
def test_import_leaves_heavy_things_alone(module, heavy):
    run = python(f"import {module}; print([m for m in {heavy.split()} if m in sys.modules])", ROOT)
    assert run.stdout.strip() == "[]", run.stderr


def test_a_method_of_the_tables_is_found_by_its_name_alone():
    said = "from cma.model import RetrievalModel as M; m = M.from_pretrained('mini')"
    run = python(f"{said}; print(m.add_adapter('a', 'CoOp').NAME)", ROOT)
    assert run.stdout.strip() == "CoOp", run.stderr


def test_import_leaves_logging_alone_and_one_call_prints_messages():
    said = "import cma, explorer, logging; log = logging.getLogger('cma.training.loop')"
    asked = "[(one.handlers, one.level, one.propagate) for one in map(logging.getLogger, NAMES)]"
    asked = asked.replace("NAMES", "('cma', 'explorer')")
    run = python(f"{said}; print({asked}); log.info('unseen')", ROOT)
    assert run.stdout == f"{[([], 0, True)] * 2}\n" and not run.stderr
    twice = "cma.log_to_stdout(); cma.log_to_stdout(); log.info('seen')"
    also = "logging.getLogger('explorer.index').info('too')"
    run = python(f"{said}; logging.basicConfig(level=20); {twice}; {also}", ROOT)
    assert run.stdout == "seen\ntoo\n" and not run.stderr


def test_no_module_reaches_others_through_the_package():
    """Else a lower layer could use a higher one, which the tests of imports would not see."""
    for name, path in FILES.items():
        if name.startswith("cma."):
            assert not re.search(r"^ *import cma\b", path.read_text("utf-8"), re.MULTILINE), name


def test_import_exposes_the_submodules():
    for path in Path(cma.__path__[0]).iterdir():
        if path.suffix == ".py" and path.stem != "__init__" or (path / "__init__.py").is_file():
            assert getattr(cma, path.stem).__name__ == f"cma.{path.stem}"
            assert path.stem in dir(cma)
    assert all(getattr(cma, name) for name in cma.__all__)
    assert cma.load_dataset is cma.data.load and cma.train.__module__ == "cma.training.loop"
    with pytest.raises(AttributeError, match="nothing"):
        cma.nothing  # noqa: B018


def test_a_missing_extra_is_named_with_the_command_that_installs_it():
    cma.require("video", "json", "csv")
    message = (
        "no_such_module, nor_this: not installed; run `pip install 'cross-modal-adapter[video]'`"
    )
    with pytest.raises(ImportError, match=f"^{re.escape(message)}$"):
        cma.require("video", "json", "no_such_module", "nor_this")


def test_the_namesake_beside_ours_is_refused_with_the_remedy(tmp_path):
    """What pip leaves of the CMA-ES optimiser: its metadata, and a package called cma."""
    write_whole(
        tmp_path / "cma-4.0.0.dist-info/METADATA",
        "Metadata-Version: 2.1\nName: cma\nVersion: 4.0.0\n",
    )
    write_whole(tmp_path / "cma/__init__.py", "def fmin(): ...\n")
    for code, path, said in (
        ("import cma", (ROOT, tmp_path), "cma` 4.0.0"),  # ours is found first
        ("import data_prep", (tmp_path, ROOT), str(tmp_path)),  # theirs is found first
    ):
        run = python(code, *path)
        assert run.returncode and "ImportError" in run.stderr
        assert said in run.stderr and "pip uninstall cma" in run.stderr
    assert python("import data_prep", ROOT).returncode == 0
