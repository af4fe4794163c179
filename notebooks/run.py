"""Run the notebooks with papermill, the one way `make run`, `make test` and CI do it.

    python notebooks/run.py                        # all, in order, into runs/notebooks
    python notebooks/run.py 03 -p dataset flickr30k -p data_root DIR -p backbone openai/clip-vit-base-patch32
    python notebooks/run.py --tiny                 # a few items and steps each
    python notebooks/run.py --commit               # and put the executed copies, cleaned, into notebooks/

`-p`, `-r` and `-y` are papermill's own. Papermill only warns of an unknown parameter: here it is an error.
Papermill sets no time limit: here a cell may take half an hour, but in a notebook that trains, or once a
parameter is given (your data may be large), as long as it needs. Training goes on where an earlier run of the
same settings stopped, unless `--replace` is given.
"""

import ast
import sys
import time
from pathlib import Path

import click
import nbformat
import papermill
import yaml
from papermill.cli import _resolve_type
from papermill.iorw import NoDatesSafeLoader

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CI = "runs/ci"  # tiny runs leave their adapters and records here, apart from real ones
LIMIT = 1800  # seconds a cell may take …
TRAINING = ("03_train_flickr30k", "04_train_msrvtt", "a1_pretrain_mini_clip")  # … but not in these
TINY = {
    "a1_pretrain_mini_clip": {},
    "01_data_prep": {"items": 24, "runs_dir": CI},
    "02_adapter_anatomy": {},
    "03_train_flickr30k": {"items": 24, "runs_dir": CI, "overrides": {"epochs": 2, "batch_size": 8}},
    "04_train_msrvtt": {
        "items": 12,
        "runs_dir": CI,
        "overrides": {"epochs": 2, "batch_size": 8, "max_frames": 4},
    },
    "05_retrieval_explorer": {"items": 24, "runs_dir": CI},
    "07_your_own_media": {"items": 24, "runs_dir": CI, "overrides": {"epochs": 2}},
}


def chosen(names: list[str]) -> list[Path]:
    """The notebooks whose names begin with one of `names`, in order; all without names."""
    every = sorted(HERE.glob("*.ipynb"))
    if missing := [name for name in names if not any(path.stem.startswith(name) for path in every)]:
        raise ValueError(f"no notebook {missing[0]!r}; there are: {', '.join(path.stem for path in every)}")
    return [path for path in every if not names or any(path.stem.startswith(name) for name in names)]


def given_parameters(typed: tuple, raw: tuple, yamls: tuple) -> dict:
    """The parameters of -p, -r and -y, read by papermill's functions; as there, the later option wins.

    Raises ValueError for text that is no YAML, or YAML that names no parameters.
    """
    found = {}
    for text in yamls:
        try:
            content = yaml.load(text, Loader=NoDatesSafeLoader)
        except yaml.YAMLError as error:
            raise ValueError(f"-y {text!r}: no YAML: {' '.join(str(error).split())}") from None
        if not isinstance(content, dict):
            raise ValueError(f"-y {text!r}: expected names and values, such as 'overrides: {{epochs: 1}}'")
        found |= content
    return found | {name: _resolve_type(value) for name, value in typed} | dict(raw)


def parameters_of(notebook: Path, given: dict, tiny: bool = False, replace: bool = False) -> dict:
    """All that is put into `notebook`: what was given and, of the overrides, also those of the flags.

    Raises ValueError for a parameter that the notebook does not have, or a value of another type.
    """
    known = {
        name: ast.literal_eval(one["default"])
        for name, one in papermill.inspect_notebook(str(notebook)).items()
    }
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"{notebook.name}: no parameter {name!r}; it has: {', '.join(known)}")
        if not _fits(value, known[name]):
            raise ValueError(
                f"{notebook.name}: {name}={value!r}: expected {type(known[name]).__name__}, such as "
                f"{known[name]!r}; -p reads True, False, None and numbers, -r text alone, -y YAML"
            )
    small = TINY[notebook.stem] if tiny else {}
    anew = {"if_exists": "replace"} if replace and "overrides" in known else {}
    overrides = {**small.get("overrides", {}), **anew, **given.get("overrides", {})}
    return {**small, **given, **({"overrides": overrides} if overrides else {})}


def _fits(value: object, usual: object) -> bool:
    """Whether a value is of the type of the committed one, where that is not None.

    The text "true" passes for a truth value; "false" does not: -p knows False, any text would count as true.
    """
    if isinstance(usual, bool) and isinstance(value, str):
        return value.lower() == "true"
    return usual is None or type(value) is type(usual) or (type(value), type(usual)) == (int, float)


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """An executed notebook as it is committed: no widget state, progress bars, timings or injected cell."""
    notebook.metadata = {key: notebook.metadata[key] for key in ("kernelspec", "language_info")}
    notebook.cells = [c for c in notebook.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    for cell in notebook.cells:
        cell.metadata = {"tags": tags} if (tags := cell.metadata.get("tags")) else {}
        if cell.cell_type == "code":
            cell.outputs = _without_clutter(cell.outputs)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for count, cell in enumerate(code, start=1):
        cell.execution_count = count
        for out in cell.outputs:
            if "execution_count" in out:
                out.execution_count = count
    return notebook


def _without_clutter(outputs: list) -> list:
    """Outputs without progress bars and widgets; text that was printed in pieces is one again."""
    kept = []
    for out in outputs:
        out.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
        if out.get("name") == "stderr" or (out.output_type != "stream" and not out.get("data")):
            continue
        if out.output_type == "stream" and kept and kept[-1].output_type == "stream":
            kept[-1].text += out.text
        else:
            kept.append(out)
    return kept


def run(notebook: Path, target: Path, parameters: dict, limit: int | None, prepare_only: bool) -> None:
    """Execute a copy of `notebook` at `target`; a cell that runs longer than `limit` seconds fails it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    papermill.execute_notebook(
        str(notebook), str(target), parameters=parameters, kernel_name="python3", cwd=str(ROOT),
        execution_timeout=limit, prepare_only=prepare_only, progress_bar=False,
    )  # fmt: skip
    print(
        f"{notebook.name}: {'prepared' if prepare_only else f'{time.monotonic() - start:.0f} s'} → {target}"
    )


@click.command(help="\b\n" + __doc__.replace("\n\n", "\n\n\b\n"))
@click.argument("names", nargs=-1)
@click.option(
    "-p", "typed", nargs=2, multiple=True, metavar="NAME VALUE", help="a number, True, None or text"
)
@click.option("-r", "raw", nargs=2, multiple=True, metavar="NAME TEXT", help="text, whatever it looks like")
@click.option("-y", "yamls", multiple=True, metavar="YAML", help="such as 'overrides: {epochs: 1}'")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "runs" / "notebooks")
@click.option("--tiny", is_flag=True, help="parameters of a run of seconds")
@click.option("--replace", is_flag=True, help="train anew instead of going on with earlier runs")
@click.option("--prepare-only", is_flag=True, help="inject the parameters, run nothing")
@click.option("--commit", is_flag=True, help="replace the notebooks by their executed copies")
@click.option("--limit", type=click.IntRange(1), help="seconds a cell may take, in any notebook")
def main(names, typed, raw, yamls, out, tiny, replace, prepare_only, commit, limit) -> None:
    """Parse the command line; exit code 1 and one line on a user's error, a failing notebook raises."""
    try:
        given = given_parameters(typed, raw, yamls)
        plan = {notebook: parameters_of(notebook, given, tiny, replace) for notebook in chosen(names)}
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    for notebook, parameters in plan.items():
        usual = None if given or notebook.stem in TRAINING else LIMIT
        run(notebook, out / notebook.name, parameters, limit or usual, prepare_only)
        if commit:
            nbformat.write(clean(nbformat.read(out / notebook.name, as_version=4)), notebook)


if __name__ == "__main__":
    main()
