"""Which module may import which."""

import ast
from functools import cache

import pytest

from tests import ROOT
from tests.core.sources import FILES, PACKAGES, PATHS, imports

LAYERS = ["files", "media", "core", "methods", "training"]  # of `cma`, from the lowest


def layer_of(module: str) -> int:
    """The layer of a module below `cma`; modules in no folder are the core."""
    first = module.split(".")[1]
    return LAYERS.index(first if first in LAYERS else "core")


@pytest.mark.parametrize("module", sorted(name for name in FILES if "data_prep" not in name))
def test_no_module_imports_from_a_higher_layer_or_past_a_public_api(module):
    """What stands beside `cma` is above it."""
    own = layer_of(module) if module.startswith("cma.") else len(LAYERS)
    for target in imports(module):
        if target.startswith("cma.") and layer_of(target) != own:
            assert layer_of(target) < own, f"{module} imports {target}"
            folder = LAYERS[layer_of(target)]
            assert folder in ("core", "files") or target == f"cma.{folder}", (
                f"{module} imports {target}, which cma.{folder} does not hand out"
            )


def test_nothing_is_imported_in_a_circle():
    @cache
    def height(module: str) -> int:
        below = imports(module, types=False) & FILES.keys() - set(PACKAGES)
        return 1 + max(map(height, below), default=-1)

    for module in FILES.keys() - set(PACKAGES):
        height(module)
    assert not any(target.startswith("cma") for target in imports("cma.adapter"))


def test_no_private_name_of_another_project_is_imported():
    for path in [*PATHS, ROOT / "notebooks" / "run.py"]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and not node.level:
                theirs = (node.module or "").partition(".")[0] not in PACKAGES
                private = [alias.name for alias in node.names if alias.name.startswith("_")]
                assert not (theirs and private), f"{path}: {node.module}: {private}"
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                assert not ast.unparse(node).startswith("torch.cpu."), path


def test_the_packages_import_downwards():
    """A wheel holds `cma`, `explorer` and `data_prep`; `cma` needs neither of the others.

    `explorer.site` takes what a page runs from the cache of npm packages that `data_prep` fills.
    """
    above = {
        "cma": {"explorer", "data_prep", "experiments"},
        "explorer": {"experiments"},
        "data_prep": {"explorer", "experiments"},
        "experiments": {"explorer"},
    }
    for module in FILES:
        forbidden = above[module.partition(".")[0]] | {"notebooks", "tests"}
        assert not forbidden & {target.partition(".")[0] for target in imports(module)}, module


def test_no_test_module_imports_another():
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests"):
                named = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                assert not any(".test_" in name for name in named), f"{path}: {named}"
