"""Serve a page, and an API beside it, that score pictures and have texts written about them.

    lit_biqa serve
    lit_biqa serve --scorer runs/first
    lit_biqa serve --run runs/grpo
    lit_biqa serve --scorer runs/first --run runs/grpo --port 8000

    curl -F picture=@photo.jpg http://127.0.0.1:7860/score

The page is for this machine alone unless --host says otherwise. Pictures are deleted once they are
answered. Needs the extra serve: pip install 'lit_biqa[serve]'.
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lit_biqa.app.settings import ServerLimits
from lit_biqa.scoring.scorer_file import SCORER, newest_scorer, scorer_file
from lit_biqa.types import InputError

if TYPE_CHECKING:
    from lit_biqa.app.examples import Example
    from lit_biqa.app.pictures import PictureScorer
    from lit_biqa.app.writing import PictureWriter
    from lit_biqa.scoring.scorer import Scorer

RUNS = Path("runs")
EMBEDDINGS = "embeddings.safetensors"
_HELP = {
    "picture_bytes": "most bytes of a picture",
    "picture_pixels": "most pixels of a picture",
    "pictures": "most pictures of a request",
    "request_bytes": "most bytes of a request",
    "seconds": "time of a request",
    "per_minute": "requests of a client address in a minute",
    "waiting": "most pictures of all clients that wait",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal ends the process.

    Returns:
        2 for bad input, 130 for Ctrl-C, 143 for SIGTERM.
    """
    options = _parser().parse_args(arguments)
    try:
        return _serve(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    title, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="lit_biqa serve",
        description=title,
        epilog=rest.strip("\n"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--scorer",
        type=Path,
        metavar="FILE|RUN",
        help="scorer.safetensors, or its run folder; default without --run: the newest in runs/",
    )
    add("--run", metavar="RUN|CONFIG", help="a run of a model that writes, or of a scorer")
    add("--condition", help="readout of --run to ask; default: the first that sees the image")
    add("--host", default="127.0.0.1", help="address to listen on; default: %(default)s")
    add("--port", type=int, default=7860, help="0 takes any that is free; default: %(default)s")
    add("--device", help="such as cpu or cuda:1; default: CUDA if there is a GPU")
    for field in dataclasses.fields(ServerLimits):
        flag = f"--{field.name.replace('_', '-')}"
        text = f"{_HELP[field.name]}; default: %(default)s"
        add(flag, type=int, default=field.default, metavar="N", help=text)
    return parser


def _serve(options: argparse.Namespace) -> int:
    """Load what answers, then answer; all arguments are checked before weights are read."""
    if find_spec("gradio") is None:
        raise InputError("serve needs the extra serve: pip install 'lit_biqa[serve]'")
    names = [field.name for field in dataclasses.fields(ServerLimits)]
    given = ServerLimits(**{name: getattr(options, name) for name in names})
    file, run = _asked(options.scorer, options.run)

    from lit_biqa.app import server
    from lit_biqa.app.service import Service

    with server.listening(options.host, options.port) as listener:
        scorer = None if file is None else _scorer(file, options.device, given)
        writer = None if run is None else _writer(run, options, given)
        # uvicorn ends the process by the signal that it has received; what follows must still run.
        # While weights are read a signal ends the process at once: there is nothing to delete, and
        # an exit raised within a library's reading would look like a broken file.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        title = " and ".join(str(part) for part in (file, run) if part is not None)
        # Clients learn no path of this machine.
        shown = [_name(part) for part in (file, run) if part is not None]
        service = Service(scorer, writer, given, " and ".join(shown))
        with server.application(service, options.host) as app:
            host, port = listener.getsockname()[:2]
            place = f"[{host}]" if ":" in host else host
            print(f"{title}: http://{place}:{port} (Ctrl-C ends it)", flush=True)
            server.run(app, listener)
    return 0


def _name(part: Path | str) -> str:
    """Name of a run, or of a file that lies in none."""
    path = Path(part).resolve()
    return path.parent.name if path.name == SCORER else path.name


def _asked(scorer: Path | None, run: str | None) -> tuple[Path | None, str | None]:
    """File of the scorer, and name of the run that writes.

    Raises:
        InputError: if there is no such scorer, or both options name one.
    """
    if run is not None and (Path(run) / SCORER).is_file():
        if scorer is not None:
            raise InputError(f"--scorer {scorer} and --run {run} both name a scorer: name one")
        scorer, run = Path(run), None
    if scorer is not None:
        return scorer_file(scorer), run
    return (None if run is not None else newest_scorer(RUNS)), run


def _scorer(file: Path, device: str | None, given: ServerLimits) -> PictureScorer:
    from lit_biqa.app.pictures import PictureScorer
    from lit_biqa.scoring.scorer import load_scorer, usable_device

    scorer = load_scorer(file, usable_device(device))
    try:
        examples = _examples(scorer, file.parent)
    except InputError as error:
        print(f"training images of the prototypes are not shown: {error}", file=sys.stderr)
        examples = []
    return PictureScorer(scorer, given.picture_pixels, examples)


def _examples(scorer: Scorer, run: Path) -> list[Example]:
    """Training images nearest to the prototypes, if the scorer lies in a run that embedded them."""
    from lit_biqa.app.examples import nearest_examples
    from lit_biqa.data.embeddings import read_embeddings

    if not (run / EMBEDDINGS).is_file():
        return []
    embeddings = read_embeddings(run / EMBEDDINGS)
    try:
        texts = _texts(run)
    except InputError as error:
        print(f"texts of the training images are not shown: {error}", file=sys.stderr)
        texts = {}
    return nearest_examples(scorer.head, embeddings, texts)


def _texts(run: Path) -> dict[tuple[str, int], tuple[str, ...]]:
    """Texts of the training images of a run, by data set and row."""
    from lit_biqa.cli.restore import instantiate_any, settings_of
    from lit_biqa.runs.folder import RunFolder

    _, data, _ = instantiate_any(settings_of(RunFolder(run)))
    data.use_transforms(None, None)
    data.setup("fit")
    return {(sample.dataset, sample.index): sample.texts for sample in data.samples["train"]}


def _writer(run: str, options: argparse.Namespace, given: ServerLimits) -> PictureWriter:
    from lit_biqa.app.writing import PictureWriter
    from lit_biqa.cli.restore import restored_reader
    from lit_biqa.scoring.scorer import usable_device

    model, readout, condition = restored_reader(run, options.condition, strict=True)
    model.to(usable_device(options.device))
    return PictureWriter(Path(run).name, model, readout, condition, given.picture_pixels)
