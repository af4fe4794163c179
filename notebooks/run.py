"""Run notebooks by papermill; `make run`, `make test` and CI use this command.

    python notebooks/run.py                # all, in order, into runs/notebooks
    python notebooks/run.py 03 -p dataset flickr30k -p data_root DIR
    python notebooks/run.py --jobs 2       # two at a time, each on half of the cores
    python notebooks/run.py --tiny         # a few items and steps each
    python notebooks/run.py --commit       # then copy the executed notebooks, cleaned, to notebooks/

`-p`, `-r` and `-y` are papermill's options; a parameter that the notebook does not have is an error
here. A cell may take half an hour. There is no limit in 03, 04, 06 and a1, or if you give a
parameter, because your data may be large. Training continues where an earlier run with the same
settings stopped; `--replace` starts it again.
"""

import ast
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
from graphlib import TopologicalSorter
from pathlib import Path

import cma
from cma.files import write_whole

try:
    cma.require("notebooks", "nbformat", "papermill")
except ImportError as error:
    sys.exit(f"error: {error}")

import click
import nbformat
import papermill
import yaml
import zmq
from papermill.iorw import NoDatesSafeLoader
from pydantic import TypeAdapter, ValidationError
from traitlets.config import Config

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# glibc gives freed memory back and fetches it again, which is 8 % of the time of an embedding
KEEP_MEMORY = {"MMAP_THRESHOLD": 2**30, "TRIM_THRESHOLD": 2**31, "TOP_PAD": 2**28}
LIMIT = 1800  # seconds that a cell may take, except in these notebooks:
TRAINING = ("03_train_flickr30k", "04_train_msrvtt", "06_compare_methods", "a1_bundled_clip")
TRAINS = {  # the datasets whose adapters notebooks train
    "03_train_flickr30k": "mini-flickr30k",
    "04_train_msrvtt": "mini-msrvtt",
}
AFTER = {  # these load the adapters that others have trained, unless they are recorded
    "05_retrieval_explorer": ("03_train_flickr30k", "04_train_msrvtt"),
    "07_your_own_media": ("03_train_flickr30k",),
    "a3_inside_the_adapter": ("03_train_flickr30k", "04_train_msrvtt"),
}
CI = {"runs_dir": "runs/ci"}  # tiny adapters and records, apart from real ones
TINY = {
    "01_data_prep": {**CI, "items": 24},
    "02_adapter_anatomy": {"items": 24, "train_items": 24, "batch_size": 8},
    "03_train_flickr30k": {**CI, "items": 24, "overrides": {"epochs": 2, "batch_size": 8}},
    "04_train_msrvtt": {
        **CI,
        "items": 12,
        "overrides": {"epochs": 2, "batch_size": 8, "max_frames": 4},
    },
    "05_retrieval_explorer": {**CI, "items": 24},
    "06_compare_methods": {**CI, "items": 24, "overrides": {"epochs": 1, "batch_size": 8}},
    "07_your_own_media": {**CI, "items": 24, "overrides": {"epochs": 2}},
    "a1_bundled_clip": {},
    "a2_quirks": {"items": 24, "steps": 6, "batch_size": 8},
    "a3_inside_the_adapter": {**CI, "items": 24},
}


def chosen(names: list[str]) -> list[Path]:
    """Return the notebooks whose names begin with one of `names`, in order; all of them without
    names. The words between two `_` count whole: `a1` is not `a10`.

    Raises ValueError for a name that no notebook begins with.
    """
    every = sorted(HERE.glob("*.ipynb"))

    def begins(path: Path, name: str) -> bool:
        return f"{path.stem}_".startswith(f"{name}_")

    if missing := [name for name in names if not any(begins(path, name) for path in every)]:
        raise ValueError(f"no notebook {missing[0]!r}; there are: {', '.join(path.stem for path in every)}")
    return [path for path in every if not names or any(begins(path, name) for name in names)]


def typed_value(text: str) -> object:
    """Return the value of -p: True, False, None, a number, or else the text itself."""
    if text in ("True", "False", "None"):
        return ast.literal_eval(text)
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def given_parameters(typed: tuple, raw: tuple, yamls: tuple) -> dict:
    """Return the parameters of -p, -r and -y, read as papermill reads them: -r wins over -p, and -p
    over -y.

    Raises ValueError for text that is not YAML, or YAML that is not a dictionary.
    """
    of_yaml = {}
    for text in yamls:
        try:
            content = yaml.load(text, Loader=NoDatesSafeLoader)
        except yaml.YAMLError as error:
            raise ValueError(f"-y {text!r}: not YAML: {' '.join(str(error).split())}") from error
        if not isinstance(content, dict):
            raise ValueError(f"-y {text!r}: expected names and values, such as 'overrides: {{epochs: 1}}'")
        of_yaml |= content
    return of_yaml | {name: typed_value(text) for name, text in typed} | dict(raw)


def parameters_of(notebook: Path, given: dict, tiny: bool = False, replace: bool = False) -> dict:
    """Return the parameters to inject into `notebook`: those given, and what `--tiny` and
    `--replace` add.

    Raises ValueError for a parameter that the notebook does not have, or a value of another type.
    """
    there = papermill.inspect_notebook(str(notebook))
    usual = {name: ast.literal_eval(parameter["default"]) for name, parameter in there.items()}
    checked = {}
    for name, value in given.items():
        if name not in usual:
            raise ValueError(f"{notebook.name}: no parameter {name!r}; it has: {', '.join(usual)}")
        kind = type(usual[name])
        try:
            checked[name] = value if usual[name] is None else TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            raise ValueError(
                f"{notebook.name}: {name}={value!r}: expected {kind.__name__}, such as {usual[name]!r}; "
                "-p reads True, False, None, numbers and text, -r only text, -y YAML"
            ) from error
    small = TINY.get(notebook.stem, {}) if tiny else {}
    anew = {"if_exists": "replace"} if replace and "overrides" in usual else {}
    overrides = small.get("overrides", {}) | anew | checked.get("overrides", {})
    return small | checked | ({"overrides": overrides} if overrides else {})


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Remove what is not committed: widget state, progress bars, timings and the injected cell.

    A cell's metadata keeps only its tags, and `mystnb`, which has the text that describes its
    figure.
    """
    notebook.metadata = {key: notebook.metadata[key] for key in ("kernelspec", "language_info")}
    notebook.cells = [c for c in notebook.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    for cell in notebook.cells:
        cell.metadata = {key: cell.metadata[key] for key in ("mystnb", "tags") if cell.metadata.get(key)}
    for count, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        cell.execution_count, cell.outputs = count, _clean_outputs(cell.outputs)
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    return notebook


def _clean_outputs(outputs: list) -> list:
    """Drop progress bars and widgets; text that was printed in pieces becomes one output."""
    kept = []
    for output in outputs:
        output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
        text = output.text if output.get("name") == "stdout" else ""
        if text and kept and kept[-1].output_type == "stream":
            kept[-1].text += text
        elif text or output.get("data"):
            kept.append(output)
    return kept


def kernels(sockets: str) -> Config:
    """Return how a kernel is reached: by socket files in the folder `sockets` if possible, else by
    ports.

    Ports are chosen before a kernel opens them, so if kernels start together, one may find its port
    in use.
    """
    by_files = {"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}}
    return Config(by_files if zmq.has("ipc") else {})


def run(notebook: Path, target: Path, parameters: dict, limit: int | None, prepare_only: bool) -> None:
    """Execute a copy of `notebook` at `target`; it fails if a cell takes longer than `limit`
    seconds.

    While it runs, the copy is beside the target, as `.NAME.ipynb`. It replaces the target at the
    end, also if a cell failed, but not if the copy could not be written completely (OSError).
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    start, running = time.monotonic(), target.with_name(f".{target.name}")
    running.unlink(missing_ok=True)  # left by a killed run
    with tempfile.TemporaryDirectory() as sockets:
        try:
            papermill.execute_notebook(
                str(notebook),
                str(running),
                parameters=parameters,
                kernel_name="python3",
                cwd=str(ROOT),
                config=kernels(sockets),
                execution_timeout=limit,
                prepare_only=prepare_only,
                progress_bar=False,
            )
        except OSError:  # a full disk
            running.unlink(missing_ok=True)
            raise
        finally:
            if running.exists():
                running.replace(target)
    done = "prepared" if prepare_only else f"{time.monotonic() - start:.0f} s"
    print(f"{notebook.name}: {done} → {target}")


def minutes(notebook: Path) -> int:
    """Return the minutes that a notebook says it takes; 0 if it says seconds."""
    told = re.search(r"\*\*Time:\*\* (\d+) min", notebook.read_text("utf-8"))
    return int(told[1]) if told else 0


def reading_minutes(notebook: Path) -> int:
    """Return how long a notebook takes to read, computed: 200 words or 20 lines of shown code a
    minute, and 3 minutes for each exercise. Code that the book folds is not shown.
    """
    words = lines = exercises = 0
    for cell in nbformat.read(notebook, as_version=4).cells:
        folded = r"<details>.*?</details>"
        if cell.cell_type == "markdown":
            words += len(re.sub(folded, "", cell.source, flags=re.DOTALL).split())
        elif "folded(" in cell.source or {"hide-input", "setup"} & set(cell.metadata.get("tags", [])):
            continue
        else:
            lines += sum(bool(line.strip()) for line in cell.source.splitlines())
            exercises += cell.source.endswith("\n    return None")
    return round(words / 200 + lines / 20 + 3 * exercises)


def needed(name: str) -> set[str]:
    """Return the notebooks in `AFTER` whose adapters are not in `results`."""
    recorded = str(ROOT / "results" / "methods" / "{}-cross-modal-adapter")
    return {one for one in AFTER.get(name, ()) if not Path(recorded.format(TRAINS.get(one))).exists()}


def run_several(notebooks: Iterable[Path], jobs: int) -> list[str]:
    """Run this command again for each notebook, `jobs` at a time; returns the names of those that
    failed, or that did not start as one that they need had failed.

    A notebook starts when those that it needs (`needed`) have succeeded. Of those that can start,
    the longest is first. The cores are divided among the jobs.
    """
    import torch

    environment = {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // jobs))} | os.environ
    order = [path.stem for path in sorted(notebooks, key=minutes, reverse=True)]
    plan = TopologicalSorter({name: needed(name).intersection(order) for name in order})
    plan.prepare()

    def one(name: str) -> int:
        if lacking := needed(name).intersection(failed):
            print(f"{name}: not started, because {', '.join(sorted(lacking))} failed", file=sys.stderr)
            return 1
        return subprocess.run([sys.executable, *sys.argv, "--one", name], env=environment).returncode

    ready, running, failed = [], {}, []
    with ThreadPoolExecutor(jobs) as pool:
        while plan.is_active():
            ready = sorted([*ready, *plan.get_ready()], key=order.index)
            while ready and len(running) < jobs:
                name = ready.pop(0)
                running[pool.submit(one, name)] = name
            for ended in wait(running, return_when=FIRST_COMPLETED).done:
                plan.done(name := running.pop(ended))
                failed += [name] if ended.result() else []
    return sorted(failed)


def copy_companions(out: Path) -> None:
    """Copy what notebooks need beside them into `out`: their helper, a figure, pictures of their texts."""
    for path in (*HERE.glob("helpers.py"), *HERE.glob("figures/gains.py"), *HERE.glob("figures/*.[jp][pn]g")):
        write_whole(out / path.relative_to(HERE), path.read_bytes())


@click.command(help="\b\n" + __doc__.replace("\n\n", "\n\n\b\n"))
@click.argument("names", nargs=-1)
@click.option("-p", "typed", nargs=2, multiple=True, metavar="NAME VALUE", help="number, True, None or text")
@click.option("-r", "raw", nargs=2, multiple=True, metavar="NAME TEXT", help="text, also if it is a number")
@click.option("-y", "yamls", multiple=True, metavar="YAML", help="such as 'overrides: {epochs: 1}'")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "runs" / "notebooks")
@click.option("--tiny", is_flag=True, help="parameters for a run of seconds")
@click.option("--replace", is_flag=True, help="train again instead of continuing earlier runs")
@click.option("--prepare-only", is_flag=True, help="inject the parameters, run nothing")
@click.option("--commit", is_flag=True, help="replace the notebooks by their executed copies")
@click.option("--limit", type=click.IntRange(1), help="seconds that a cell may take, in any notebook")
@click.option("--jobs", type=click.IntRange(1), default=1, help="notebooks that run at a time")
@click.option("--one", hidden=True, help="the notebook that one of several jobs runs")
def main(names, typed, raw, yamls, out, tiny, replace, prepare_only, commit, limit, jobs, one) -> None:
    """Run the command line. Errors a user can correct are one line and exit code 1; a failed cell
    raises.
    """
    try:
        given = given_parameters(typed, raw, yamls)
        notebooks = [HERE / f"{one}.ipynb"] if one else chosen(names)
        plan = {notebook: parameters_of(notebook, given, tiny, replace) for notebook in notebooks}
    except ValueError as error:
        sys.exit(f"error: {error}")
    if jobs > 1 and not one:
        if failed := run_several(plan, jobs):
            sys.exit(f"error: {', '.join(failed)} failed, see above")
        return
    usual_path = filter(None, [os.environ.get("PYTHONPATH")])
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), *usual_path])  # kernels find helpers.py
    for name, size in KEEP_MEMORY.items():
        os.environ.setdefault(f"MALLOC_{name}_", str(size))
    for notebook, parameters in plan.items():
        usual = None if given or notebook.stem in TRAINING else LIMIT
        try:
            copy_companions(out)
            run(notebook, out / notebook.name, parameters, limit or usual, prepare_only)
            if commit:
                cleaned = clean(nbformat.read(out / notebook.name, as_version=4))
                write_whole(notebook, nbformat.writes(cleaned).rstrip("\n") + "\n")
        except OSError as error:
            sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
