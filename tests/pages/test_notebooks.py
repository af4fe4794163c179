"""The committed notebooks as a reader meets them, and the command that runs them."""

import ast
import copy
import importlib.util
import io
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import nbformat
import papermill
import papermill.cli
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import cma
from tests import ROOT
from tests.toy_data import write_images
from tests.toy_media import write_videos

HERE = ROOT / "notebooks"
NOTEBOOKS = {path.stem: nbformat.read(path, as_version=4) for path in sorted(HERE.glob("*.ipynb"))}
spec = importlib.util.spec_from_file_location("run_notebooks", HERE / "run.py")
run = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run)
README = (ROOT / "README.md").read_text("utf-8")
KERNEL = {"name": "python3", "language": "python", "display_name": "Python 3"}


def code_of(stem: str) -> list:
    """The code cells but the one that sets up Colab, which is there once the repository has an
    address.
    """
    cells = [cell for cell in NOTEBOOKS[stem].cells if cell.cell_type == "code"]
    return [cell for cell in cells if "setup" not in cell.metadata.get("tags", [])]


def execute(stem: str, *holds: str, **names) -> dict:
    """Run a notebook's imports, its parameters and, in this order, the cells that hold these texts.

    `names` replace parameters and stand for what other cells define. Returns all that is defined
    then.
    """
    sources = [cell.source for cell in code_of(stem)]
    cells = [source for text in holds for source in sources if text in source]
    assert len(cells) == len(holds)
    defined = {}
    exec(f"{sources[0]}\n{sources[1]}", defined)
    defined |= {"ROOT": ROOT, "device": "cpu"} | names
    for source in cells:
        exec(compile(source, stem, "exec"), defined)
    return defined


def test_each_has_a_tiny_size_of_parameters_that_it_has():
    assert set(run.TINY) == set(NOTEBOOKS)
    for stem, small in run.TINY.items():
        assert set(small) <= set(papermill.inspect_notebook(str(HERE / f"{stem}.ipynb")))


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_committed_as_it_ran_from_a_fresh_kernel_and_small_enough_to_be_shown_by_github(stem):
    notebook, code = NOTEBOOKS[stem], code_of(stem)
    assert run.clean(copy.deepcopy(notebook)) == notebook  # its cells are counted from 1
    kinds = [output.output_type for cell in code for output in cell.outputs]
    assert kinds and "error" not in kinds
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    assert (HERE / f"{stem}.ipynb").stat().st_size < 1_000_000
    assert not re.search(r"[\s\"'(=:](/home|/root|/Users|/tmp|/work)/", nbformat.writes(notebook))


TAKEAWAY = re.compile(r"^\*\*([^*\n]+[.!])\*\*$", re.MULTILINE)  # a paragraph, all bold
SHOWN = ("text/markdown", "text/plain", "text/html")  # of an output
NUMBER = re.compile(r"(?<![\w@/.])\d+(?:,\d{3})*(?:\.\d+)?")  # not that of R@1 or B/32


def printed_numbers(notebook: nbformat.NotebookNode) -> set[str]:
    """The numbers in the outputs, as they are printed: of text, Markdown and tables, not of
    pictures.
    """
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [output.get("text", "") for output in outputs]
    texts += [str(output.get("data", {}).get(kind, "")) for output in outputs for kind in SHOWN]
    return set(NUMBER.findall("\n".join(texts)))


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_prose_states_no_number_that_no_cell_prints(stem):
    above = {"95", "100"}  # every interval's level, and all of them
    for cell in NOTEBOOKS[stem].cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"\$[^$]*\$|`[^`]*`|\[[^]]*\]\([^)]*\)|section \d\.\d", "", cell.source)
            for number in re.findall(r"(\d+(?:\.\d+)?) ?%|(\d+\.\d+)", prose):
                assert "".join(number) in above, f"{number} in: {prose}"
        above |= set(NUMBER.findall(cell.source)) if cell.cell_type == "code" else set()
        above |= printed_numbers(nbformat.v4.new_notebook(cells=[cell]))


def unprinted(notebook: nbformat.NotebookNode) -> list[str]:
    """The takeaways of a notebook that have no number, or one that no output has."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    found = [bold for text in texts for bold in TAKEAWAY.findall(text)]
    printed = printed_numbers(notebook)
    return [
        bold for bold in found if not (numbers := set(NUMBER.findall(bold))) or numbers - printed
    ]


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_every_number_of_a_takeaway_is_printed_by_the_committed_run(stem):
    assert unprinted(NOTEBOOKS[stem]) == []


def without_takeaway(notebook: nbformat.NotebookNode) -> list[str]:
    """The sections that print a number, but do not end with a takeaway."""
    sections = {"": ["", False]}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            end, *begun = re.split(r"^## (.*)$", cell.source, flags=re.MULTILINE)
            sections[[*sections][-1]][0] += f"\n{end}"
            sections |= {
                title: [text, False] for title, text in zip(begun[::2], begun[1::2], strict=True)
            }
        elif printed_numbers(nbformat.v4.new_notebook(cells=[cell])):
            sections[[*sections][-1]][1] = True
    return [
        title
        for title, (text, prints) in sections.items()
        if title and prints and not TAKEAWAY.search(text)
    ]


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_every_section_that_prints_a_number_has_a_takeaway(stem):
    assert set(without_takeaway(NOTEBOOKS[stem])) <= {"What we saw"}


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_readme_names_every_notebook_with_its_times(stem):
    row = re.search(rf"^\| \[.*notebooks/{stem}\.ipynb.*$", README, flags=re.MULTILINE)[0]
    assert (
        f"**Time:** {row.split('|')[-2].strip()} on one CPU core" in NOTEBOOKS[stem].cells[0].source
    )


def test_the_map_of_the_notebooks_has_each_with_the_times_of_readme():
    page = (HERE / "README.md").read_text("utf-8")
    times = re.findall(
        r"^\| \[.*?\]\(notebooks/(\w+)\.ipynb\).*\| ([^|]+) \|$", README, flags=re.MULTILINE
    )
    row = r"^\| \[.*?\]\((\w+)\.ipynb\) \| [^|]+ \| ([^|]+) \| ([^|]+) \|"
    here = re.findall(row, page, flags=re.MULTILINE)
    assert [(stem, time) for stem, _, time in here] == times and [one[0] for one in here] == list(
        NOTEBOOKS
    )
    assert [stem for stem, written, _ in here if written != "–"] == list(EXERCISES)
    words = re.findall(r"^- \*\*([^*]+)\*\*", page, flags=re.MULTILINE)
    assert len(words) == len(set(words)) > 20
    assert (
        "](README.md#words)" in NOTEBOOKS["02_adapter_anatomy"].cells[0].source
        and "\n## Words\n" in page
    )


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_the_map_says_about_how_long_a_notebook_takes_to_read(stem):
    page = (HERE / "README.md").read_text("utf-8")
    told = re.search(
        rf"^\| \[[^]]*\]\({stem}\.ipynb\).*\| (\d+) min to read \|", page, re.MULTILINE
    )[1]
    assert abs(int(told) - run.reading_minutes(HERE / f"{stem}.ipynb")) <= 3


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_every_name_that_the_code_takes_from_a_module_is_there(stem):
    """Also where a default run does not come by, such as the training of a1."""
    nodes = list(ast.walk(ast.parse("\n".join(cell.source for cell in code_of(stem)))))
    imported = {}
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            exec(ast.unparse(node), imported)
    modules = {name for name, value in imported.items() if isinstance(value, ModuleType)}
    names = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
    taken = [
        name for name in names if re.fullmatch(r"[\w.]+", name) and name.split(".")[0] in modules
    ]
    assert len(taken) > 5
    for name in taken:
        eval(name, imported)


EXERCISES = {  # by notebook: cma's own function, and what a wrong answer puts for what
    "01_data_prep": {"recall_at": ("library_recall", ("<=", "<"))},
    "02_adapter_anatomy": {
        "bottleneck": ("library_bottleneck", ("*own), ", "*shared), ")),
        "add_hook": ("cma_hook", ("z + f(z)", "f(z)")),
        "adapter_output": (
            "cma_output",
            ('["shared_weight"][site]', '["shared_weight"][site].detach()'),
        ),
        "contrastive_loss": (
            "symmetric_cross_entropy",
            (".log_softmax(dim=1)", ".softmax(dim=1).log()"),
        ),
    },
    "03_train_flickr30k": {
        "masked_loss": ("symmetric_cross_entropy", (".fill_diagonal_(False)", "")),
    },
    "04_train_msrvtt": {
        "weighed_by_text": ("text_conditioned", ("-torch.inf", "0.0")),
    },
    "05_retrieval_explorer": {
        "nearest": ("library_nearest", (" / (vectors.norm(dim=1) * text.norm())", "")),
    },
    "06_compare_methods": {
        "paired": ("library_paired", ("other <= k", "other < k")),
        "own_method": ("library_own_method", ("z + scale * shift", "z + shift")),
    },
}
# what an exercise needs of an earlier cell
NEEDED = {
    "02_adapter_anatomy": ("def new_adapter", "def bottleneck(z", "= checked(bottleneck,"),
    "04_train_msrvtt": ("clips_of = ",),
}
TOLD = r"right, in all|case \d of \d differs"  # what a check says of an answer
EACH_EXERCISE = [(stem, name) for stem, names in EXERCISES.items() for name in names]


def exercise(stem: str, name: str, *change: str) -> tuple[dict, str]:
    """What the check of an exercise defines, and the first line that it prints, "" for none.

    With `change`, ("", "") for none, the folded solution stands in place of the unfilled body.
    """
    cells = NOTEBOOKS[stem].cells
    found = rf"def {name}\(|= checked\({name},"
    asked, check = [number for number, cell in enumerate(cells) if re.search(found, cell.source)]
    stub, after = cells[asked].source, cells[check + 1].source
    if change:
        solution = re.search(
            r"<summary>Solution</summary>.*?```python\n(.*?)```", after, flags=re.DOTALL
        )[1]
        assert stub.endswith("\n    return None") and change[0] in solution
        stub = stub.removesuffix("    return None") + solution.replace(*change)
    defined = execute(stem, *NEEDED.get(stem, ()))
    with redirect_stdout(io.StringIO()) as printed:
        exec(stub, defined)
        exec(cells[check].source, defined)
    return defined, [*printed.getvalue().splitlines(), ""][0]


@pytest.mark.parametrize("stem, name", EACH_EXERCISE)
def test_an_exercise_is_committed_unfilled_and_goes_on_with_cmas_own_function(stem, name):
    defined, said = exercise(stem, name)
    assert not re.match(TOLD, said)
    assert defined[name].__qualname__ == EXERCISES[stem][name][0]
    printed = [str(output.get("text")) for cell in code_of(stem) for output in cell.outputs]
    assert not [text for text in printed if re.match(TOLD, text)]


@pytest.mark.parametrize("stem, name", EACH_EXERCISE)
def test_the_folded_solution_of_an_exercise_is_right_and_a_wrong_one_is_told(stem, name):
    defined, said = exercise(stem, name, "", "")
    assert re.fullmatch(r"right, in all \d+ cases", said) and defined[name].__qualname__ == name
    own, wrong = EXERCISES[stem][name]
    defined, said = exercise(stem, name, *wrong)
    assert re.match(r"case \d of \d differs, so we go on with cma's own function: ", said)
    assert defined[name].__qualname__ == own


def command(*words: str) -> tuple[Result, dict[str, dict]]:
    """How `python notebooks/run.py WORDS` ends, and what it asks of papermill, by notebook."""
    asked = {}
    with pytest.MonkeyPatch.context() as patch:
        keep = lambda path, _, **how: asked.update({Path(path).stem: how})  # noqa: E731
        patch.setattr(run.papermill, "execute_notebook", keep)
        if "--jobs" in words:  # in this process alone
            words = (*words, "--jobs", "1")
        return CliRunner().invoke(run.main, [*words, "--out", tempfile.gettempdir()]), asked


LINES = (
    "README.md",
    "docs/quickstart.md",
    "docs/library.md",
    "docs/explorer.md",
    "notebooks/README.md",
    "results/README.md",
    "docs/reproduce.md",
    "CONTRIBUTING.md",
    "data_prep/README.md",
    "cma/mini_clip/README.md",
)


def lines_to_type() -> list[str]:
    """What follows every `python notebooks/run.py` in the files of `LINES` and in the notebooks'
    text.
    """
    texts = [(ROOT / name).read_text("utf-8") for name in LINES]
    cells = [cell for notebook in NOTEBOOKS.values() for cell in notebook.cells]
    texts += [cell.source for cell in cells if cell.cell_type == "markdown"]
    lines = re.findall(r"python notebooks/run\.py( [^`\n#&]*)", "\n".join(texts))
    return sorted({line.strip() for line in lines})


@pytest.mark.parametrize("line", lines_to_type())
def test_what_a_reader_is_told_to_type_can_run_to_its_end(line):
    words = shlex.split(line)
    ended, asked = command(*words)
    assert ended.exit_code == 0 and asked
    for how in asked.values():
        assert how["execution_timeout"] is None or not {"-p", "-r", "-y"} & set(words)
        assert "--replace" in words or "if_exists" not in how["parameters"].get("overrides", {})


def test_make_run_trains_anew_and_limits_what_does_not_train():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for goal in ("run", "notebooks"):
        recipe = rf"^{goal}: .*\n\t\$\(PYTHON\) notebooks/run\.py(.*)$"
        words = re.search(recipe, makefile, flags=re.MULTILINE)[1]
        ended, asked = command(*words.replace("--commit", "").split())
        assert ended.exit_code == 0 and set(asked) == set(run.TINY)
        for name, how in asked.items():
            trains = name.startswith(("03", "04", "06", "a1"))
            assert how["execution_timeout"] == (None if trains else 1800), name
            if name[:2] in ("03", "04", "07"):
                assert how["parameters"] == {"overrides": {"if_exists": "replace"}}, name
    (how,) = command("07", "-y", "overrides: {lr: 0.002}", "-r", "query", "42")[1].values()
    assert how["parameters"] == {"overrides": {"lr": 0.002}, "query": "42"}
    assert command("04", "--limit", "60")[1]["04_train_msrvtt"]["execution_timeout"] == 60
    # by their beginnings, in whole words
    assert list(command("03", "01")[1]) == ["01_data_prep", "03_train_flickr30k"]
    assert list(command("02")[1]) == ["02_adapter_anatomy"]
    assert list(command()[1]) == list(NOTEBOOKS)


def small_notebook(path, *sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)


def test_two_notebooks_run_at_a_time_and_those_that_load_adapters_wait(tmp_path):
    folder, log = tmp_path / "notebooks", tmp_path / "log"
    folder.mkdir()
    shutil.copyfile(HERE / "run.py", folder / "run.py")
    said = (
        f"import time; log = {str(log)!r}; note = lambda word: open(log, 'a').write(word + '\\n')"
    )
    until_06 = "while time.monotonic() < end and '06' not in open(log).read(): time.sleep(0.05)"
    for name, does in (
        (
            "03_train_flickr30k",
            f"end = time.monotonic() + 60; note('03')\n{until_06}\nnote('03 ends')",
        ),
        ("05_retrieval_explorer", "note('05')"),
        ("06_compare_methods", "note('06'); assert False"),
    ):
        small_notebook(folder / f"{name}.ipynb", said, does)
    command = [sys.executable, folder / "run.py", "--jobs", "2"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1 and "error: 06_compare_methods failed, see above" in ended.stderr
    order = log.read_text().split("\n")
    assert order.index("06") < order.index("03 ends") < order.index("05")
    assert "05_retrieval_explorer.ipynb: " in ended.stdout


def test_an_executed_copy_is_whole_or_the_old_one_and_a_failing_one_can_be_looked_at(
    tmp_path, monkeypatch
):
    target = tmp_path / "out" / "a.ipynb"
    small_notebook(tmp_path / "a.ipynb", "1 + 1", "1 / 0")
    with pytest.raises(papermill.PapermillExecutionError):
        run.run(tmp_path / "a.ipynb", target, {}, None, False)
    assert "ZeroDivisionError" in target.read_text("utf-8")
    before = target.read_bytes()

    def full_disk(notebook, path, *_, **__):
        assert Path(path) != target
        Path(path).write_text("{", "utf-8")
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(run.papermill.execute, "write_ipynb", full_disk)
    with pytest.raises(OSError, match="No space left"):
        run.run(tmp_path / "a.ipynb", target, {}, None, True)
    assert target.read_bytes() == before and list(target.parent.iterdir()) == [target]


def test_an_output_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    ended = CliRunner().invoke(
        run.main, ["02", "--prepare-only", "--out", str(tmp_path / "file" / "x")]
    )
    assert ended.exit_code == 1 and re.fullmatch(r"error: .*file.*\n", ended.output)


def test_without_the_packages_of_notebooks_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "papermill", None)
    with pytest.raises(SystemExit, match=r"^error: papermill: .* `pip install .*\[notebooks\]'`$"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


@pytest.mark.parametrize(
    "stem", [stem for stem in NOTEBOOKS if stem.startswith(("03", "04", "06", "a1"))]
)
def test_a_notebook_says_what_to_do_where_experiments_is_absent(stem, monkeypatch):
    imports = code_of(stem)[0].source
    monkeypatch.setitem(sys.modules, "experiments", None)
    with pytest.raises(
        ImportError, match=r"^`experiments` comes with a clone alone: run `pip install -e"
    ):
        exec(imports[imports.index("try:") :], {})


@pytest.mark.parametrize(
    "words, said",
    [
        ("02 -p sed 1", "02_adapter_anatomy.ipynb: no parameter 'sed'; it has: .*seed"),
        ("01 03 -p recipe paper", "01_data_prep.ipynb: no parameter 'recipe'"),
        ("99", "no notebook '99'; there are: 01_data_prep"),
        ("03 -y 'items: ['", "-y 'items: \\['.*not YAML"),
        ("03 -y 5", "-y '5': expected names and values"),
        ("03 -y 'overrides: 5'", "overrides=5: expected dict.*-y"),
        ("""03 -p overrides '{"epochs": 1}'""", "overrides=.*expected dict.*-y"),
        ("a1 -p train maybe", "train='maybe': expected bool"),
        ("03 -p seed 4x", "seed='4x': expected int, such as 42"),
        ("07 -p query 42", "query=42: expected str.*-r"),
    ],
)
def test_a_broken_value_is_one_line(words, said):
    ended, asked = command(*shlex.split(words))
    assert not asked and ended.exit_code == 1 and re.fullmatch(f"error: .*{said}.*\n", ended.output)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    """Toy dataset folders named as the offline benchmarks, with their recipes, and one of another
    name.
    """
    root = tmp_path_factory.mktemp("data")
    for name, recipe in {"mini-flickr30k": None, "mini-msrvtt": None, "mine": "flickr30k"}.items():
        write_images(root / name, {"train": 8, "val": 4, "test": 4}, recipe=recipe or name)
    return root


@pytest.mark.parametrize("page", ["README.md", "docs/library.md"])
def test_the_example_of_a_page_runs(page, data_root, tmp_path, monkeypatch):
    shutil.copytree(data_root, tmp_path / "data")
    shutil.copytree(data_root / "mini-flickr30k" / "media", tmp_path / "pictures")
    Image.new("RGB", (32, 32), "red").save(tmp_path / "fox.jpg")
    files = sorted(path for path in (tmp_path / "pictures").rglob("*") if path.is_file())
    rows = [f"{path.relative_to(tmp_path)},picture {number}" for number, path in enumerate(files)]
    (tmp_path / "captions.csv").write_text("\n".join(["file_name,caption", *rows]), "utf-8")
    load, train = cma.load_backbone, cma.train
    monkeypatch.setattr("cma.model.load_backbone", lambda *_: load("mini"))
    short = lambda model, data, config: train(model, data, replace(config, epochs=1))  # noqa: E731
    monkeypatch.setattr(cma, "train", short)
    monkeypatch.chdir(tmp_path)
    defined = {}
    text = (ROOT / page).read_text("utf-8")
    exec(re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)[1], defined)
    assert defined["model"].active
    assert len(defined["index"].query_media("fox.jpg", k=5)) == 5


def test_07_replaces_no_folder_that_it_did_not_write(tmp_path):
    write_images(tmp_path / "data" / "mini-flickr30k", {"test": 20})
    write_videos(tmp_path / "data" / "mini-msrvtt", {"test": 7})
    cells = "def copy_named", "def make_example"
    make = execute("07_your_own_media", *cells, ROOT=tmp_path, items=None)["make_example"]
    for _ in range(2):  # its own is made anew
        folder, _ = make(tmp_path / "mine")
    assert (folder / "pictures" / "a red cat.png").is_file()
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "a.jpg").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="holiday: not written by this notebook"):
        make(tmp_path / "holiday")
    assert (tmp_path / "holiday" / "a.jpg").read_bytes() == b"precious"
