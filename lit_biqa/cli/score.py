"""Score photographs: predicted mean opinion scores on [1, 5], 5 best.

    lit_biqa score photo.jpg
    lit_biqa score photos/ --sort --csv scores.csv
    lit_biqa score 'photos/**/*.jpg' --scorer runs/first
    lit_biqa score before.jpg after.jpg

Folders are searched to any depth. Each line is a score and a path; each file without a score is
named with the reason, on stderr. For exactly two pictures the last line says which is better.
"""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from lit_biqa.io.files import as_utf8
from lit_biqa.scoring.photos import Photo, find_photos
from lit_biqa.scoring.rating import Rating, rate
from lit_biqa.scoring.scorer import load_scorer, usable_device
from lit_biqa.scoring.scorer_file import newest_scorer, scorer_file
from lit_biqa.types import InputError

RUNS = Path("runs")
_MOST_CROPS = 32  # per side: 1,024 crops of one picture


def main(arguments: Sequence[str] | None = None) -> int:
    """Print scores.

    Returns:
        0, or 2 for bad input or if no file could be scored, 130 if Ctrl-C ended it.
    """
    options = _parser().parse_args(arguments)
    try:
        return _score(options)
    except InputError as error:
        return _fail(f"error: {error}", 2)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return _fail("error: a name is longer than this file system takes", 2)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)


def _parser() -> argparse.ArgumentParser:
    title, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="lit_biqa score",
        description=title,
        epilog=rest.strip("\n"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("photos", nargs="+", metavar="PHOTO|FOLDER|GLOB", help="what to score")
    parser.add_argument(
        "--scorer",
        type=Path,
        metavar="FILE|RUN",
        help="scorer.safetensors, or the run folder that holds it; default: the newest in runs/",
    )
    parser.add_argument(
        "--csv", type=Path, metavar="OUT", help="also write path, score and status to a new file"
    )
    parser.add_argument("--sort", action="store_true", help="print worst first, after scoring all")
    parser.add_argument(
        "--crops",
        type=int,
        default=0,
        metavar="N",
        help="mean and spread over N x N crops at full resolution, for large pictures",
    )
    parser.add_argument("--device", help="such as cpu or cuda:1; default: CUDA if there is a GPU")
    return parser


def _score(options: argparse.Namespace) -> int:
    """Score the files of the arguments; all arguments are checked before a picture is opened."""
    if options.crops and not 2 <= options.crops <= _MOST_CROPS:
        raise InputError(f"--crops {options.crops}: give 2 to {_MOST_CROPS}, or 0 for none.")
    if options.csv is not None and options.csv.exists():
        raise InputError(f"{options.csv} exists and is not replaced: name a new file for --csv.")
    device = usable_device(options.device)
    photos = find_photos(options.photos)
    file = newest_scorer(RUNS) if options.scorer is None else scorer_file(options.scorer)
    scorer = load_scorer(file, device)
    newest = f", the newest in {RUNS}/" if options.scorer is None else ""
    print(f"scorer: {as_utf8(str(file))}{newest}", flush=True)
    ratings = list(_shown(rate(scorer, photos, options.crops), photos, options.sort, options.crops))
    if options.csv is not None:
        _write(options.csv, ratings, options.crops)
    scored = [rating for rating in ratings if rating.scored]
    print(f"{len(scored)} scored, {len(ratings) - len(scored)} not scored")
    if len(scored) == len(ratings) == 2:
        from lit_biqa.scoring.comparison import compare, errors_in_test

        one, other = scored
        errors = {} if options.crops else errors_in_test(file.parent)  # tests rate whole pictures
        print(as_utf8(compare(one, other, errors)))
    sys.stdout.flush()
    return 0 if scored else 2


def _shown(
    ratings: Iterable[Rating], photos: Sequence[Photo], sort: bool, crops: int
) -> Iterator[Rating]:
    """Print ratings, in order or worst first, and yield them in the order of printing."""
    if sort:
        ratings = sorted(_counted(ratings, len(photos)), key=_worst_first)
    for rating in ratings:
        _print(rating, crops)
        yield rating


def _worst_first(rating: Rating) -> tuple[bool, float]:
    return not rating.scored, rating.score if rating.scored else 0.0


def _counted(ratings: Iterable[Rating], total: int) -> Iterator[Rating]:
    """Show the number of scored files on a terminal, as long as nothing else is printed."""
    for done, rating in enumerate(ratings, 1):
        if sys.stderr.isatty():
            end = "\r" if done < total else "\r\033[K"
            print(f"{done}/{total}", end=end, file=sys.stderr, flush=True)
        yield rating


def _print(rating: Rating, crops: int) -> None:
    path = as_utf8(str(rating.path))
    if not rating.scored:
        print(f"not scored: {path}: {as_utf8(rating.status)}", file=sys.stderr, flush=True)
        return
    spread = f" ± {rating.spread:.2f}" if rating.crops else ""
    whole = "  (whole: smaller than a crop)" if crops and not rating.crops else ""
    print(f"{rating.score:.2f}{spread}  {path}{whole}", flush=True)


def _write(path: Path, ratings: Sequence[Rating], crops: int) -> None:
    """Write the CSV file whole, in the order of printing."""
    from lit_biqa.evaluation.report import write_csv

    columns = ["path", "score", *(["spread", "crops"] if crops else []), "status"]
    write_csv(path, columns, [[getattr(rating, name) for name in columns] for rating in ratings])


def _fail(message: str, status: int) -> int:
    print(message, file=sys.stderr)
    return status
