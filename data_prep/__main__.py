"""The command line: `python -m data_prep NAME --source … --out …`, or `… data_prep mini`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cma import log_to_stdout
from cma.files import printable
from data_prep import frames, mini, own
from data_prep.benchmarks import BENCHMARKS
from data_prep.benchmarks.hub import HUB_ID, KINDS, Repository, obtain
from data_prep.find import report
from data_prep.prepare import prepare
from data_prep.readers import BadInput, expand_home

LONGEST = 2_000  # characters of an error


def build_parser() -> argparse.ArgumentParser:
    """Return the parser: a subcommand for each benchmark, and `folder`, `mini` and `frames`."""
    parser = argparse.ArgumentParser(
        prog="python -m data_prep", description=sys.modules["data_prep"].__doc__
    )
    parser.add_argument(
        "--find", type=Path, metavar="DIR", help="say which benchmark a folder of downloads holds"
    )
    commands = parser.add_subparsers(metavar="NAME")
    mini.add_command(commands)
    frames.add_command(commands)
    readers = {
        name: (benchmark.help, benchmark.add_options) for name, benchmark in BENCHMARKS.items()
    }
    readers["folder"] = (own.__doc__, own.add_options)
    for name, (description, add_options) in readers.items():
        command = commands.add_parser(
            name, help=first_sentences(description), description=description
        )
        add = command.add_argument
        own_media = name == "folder"
        hub = own_media or BENCHMARKS[name].hub
        what = "folder with the downloaded files"
        if own_media:
            what = "folder of media, parquet file, shard, or USER/NAME of a dataset on the hub"
        add("--source", type=Path, required=own_media or not hub, help=what)
        if hub:
            add("--revision", default="main", help="of the hub's dataset (default: %(default)s)")
            add("--yes", action="store_true", help="fetch from the hub without asking")
        add("--out", type=Path, required=True, help="dataset folder to write")
        without = "continue without unusable items, and with counts unlike the published ones"
        add("--allow-missing", action="store_true", help=without)
        add("--no-check", action="store_true", help="do not decode the media, only look for them")
        add(
            "--annotations-only",
            action="store_true",
            help="write every item without looking for media",
        )
        add("--workers", type=int, default=2, help="processes that decode (default: %(default)s)")
        add_options(command)
        command.set_defaults(run=_prepare)
    return parser


def first_sentences(text: str) -> str:
    """Return the first paragraph of a docstring, in one line."""
    return " ".join(text.partition("\n\n")[0].split())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Return 0; 1 after an error for the user (one line on stderr), 130 after
    Ctrl-C.
    """
    log_to_stdout()
    try:
        run(arguments)
    except (BadInput, ImportError, OSError) as error:
        message = printable(str(error))
        if len(message) > LONGEST:  # a file can hold long names
            message = f"{message[: LONGEST // 2]} … {message[-LONGEST // 2 :]}"
        print(f"error: {message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        kept = "what was downloaded, checked or decoded is kept"
        print(f"\nstopped; the same command continues from there: {kept}", file=sys.stderr)
        return 130
    return 0


def run(arguments: Sequence[str] | None = None) -> None:
    """Run one command. Raises `BadInput`, ImportError or OSError that the user can correct."""
    parser = build_parser()
    options = expand_home(parser.parse_args(arguments))
    if options.find:
        print("\n".join(report(options.find)))
    elif "run" in options:
        options.run(options)
    else:
        parser.error("expected a NAME, or --find DIR")


def _wanted(options: argparse.Namespace) -> Repository | None:
    """Return the hub dataset that `--hub` or the source of `folder` names, if any."""
    usual = getattr(options, "repositories", None)
    source = options.source
    if usual and options.hub:
        known = {repository.id: repository for repository in usual}
        return known.get(options.hub, Repository(options.hub, ("*",)))
    of_folder = source and usual is None and "yes" in options and not source.exists()
    if of_folder and HUB_ID.fullmatch(source.as_posix()):
        print(f"{source}: no such folder or file here; looking for it on the hub")
        return Repository(source.as_posix(), KINDS)
    return None


def _prepare(options: argparse.Namespace) -> None:
    wanted = _wanted(options)
    if wanted:
        options.fetched = obtain(wanted, options.revision, options.yes)
        if options.source is None or wanted.files == KINDS:
            options.source = options.fetched.folder
    if options.source is None:
        raise BadInput("expected --source DIR with what you downloaded, or --hub")
    annotations = options.read(options)
    if options.source.is_file():  # a container
        options.source = options.source.parent
    how = options.allow_missing, not options.no_check, options.workers, options.annotations_only
    prepare(annotations, options.source, options.out, *how)


if __name__ == "__main__":
    sys.exit(main())
