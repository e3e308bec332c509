"""``python -m lit_biqa``: prints help at once, and imports a command's module only to run it."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import time
from collections.abc import Sequence

SUBCOMMANDS = {
    "fit": "train a method, ship its scorer and test it",
    "validate": "correlate predictions with MOS on the validation sets",
    "test": "correlate predictions with MOS on the test sets: one table, two CSV files",
    "predict": "score images without MOS",
}

# Each is a module with ``main(arguments) -> exit status`` and its own help.
COMMANDS = {
    "score": ("lit_biqa.cli.score", "score photographs, one, two or whole folders"),
    "serve": ("lit_biqa.cli.serve", "a page and an API that score pictures and write about them"),
    "import-rali": ("lit_biqa.cli.import_rali", "make a scorer of RALI's released files"),
    "export-clip": ("lit_biqa.cli.export_clip", "write a scorer's CLIP as transformers reads it"),
    "export": ("lit_biqa.cli.export", "write a scorer as an ONNX or torch.export program"),
    "list": ("lit_biqa.cli.list", "recipes, data sets, splits, backbones, methods, readouts, ..."),
    "plan": ("lit_biqa.cli.plan", "plan the memory of a fit on each GPU, no weights read"),
    "describe": ("lit_biqa.cli.describe", "have a trained model write texts about images"),
    "analyse": ("lit_biqa.cli.analyse", "study a model: instability, accuracy, layers, attention"),
    "case": ("lit_biqa.cli.case", "put one image through several models, side by side"),
    "swap": ("lit_biqa.cli.swap", "write the weights of one model with a part of another"),
    "report": ("lit_biqa.cli.report", "draw the HTML report of runs again, from their files"),
    "compare": ("lit_biqa.cli.compare", "lay tested runs side by side"),
    "compare-rewards": ("lit_biqa.cli.compare_rewards", "rewards before and after reinforcement"),
    "baseline": ("lit_biqa.cli.baseline", "what group means of training MOS reach, no image seen"),
    "weights": ("lit_biqa.cli.weights", "pretrained weights that packages carry: found, checked"),
    "prepare": ("lit_biqa.cli.prepare", "check unpacked data sets and say where each is obtained"),
}

HELP = """\
usage: lit_biqa [-h] [--version] SUBCOMMAND [--config NAME ...] [--run DIR] [--SETTING VALUE ...]

Blind image quality assessment with multimodal language models.

subcommands:
{subcommands}

further commands, each with a --help of its own:
{commands}

for every subcommand:
  --config NAME      settings: a recipe or a file; of several the later ones win
  --run DIR          folder for all that the run writes; default runs/<config>-<date>-<time>
  --ckpt_path WHICH  weights to start from: best or last of the run folder, a file, or none
  --SETTING VALUE    any setting, such as --data.loader.batch_size 32 or --trainer.max_epochs 5
  --print_config     print all settings as they came out, and stop
  --help             list all settings; --model.help CLASS lists those of one method

An error is one line on stderr; LIT_BIQA_TRACEBACK=1 prints its traceback.
SIGTERM, SIGINT or SIGUSR1 ends a fit after the running step and saves all that resuming needs; a
second signal ends it at once.
Exit status: 0 done, 1 failing machine, 2 bad input, 143 SIGTERM, 130 SIGINT, 138 SIGUSR1.

examples:
  lit_biqa fit --config quickstart --run runs/first
  lit_biqa score photos/ --sort
  lit_biqa fit --run runs/first --ckpt_path last
  lit_biqa test --config runs/first/config.yaml --run runs/first --data.test '[livew, koniq10k]'
  lit_biqa predict --config runs/first/config.yaml --run runs/first --data.predict '[photos/]'
"""


def main(args: Sequence[str] | None = None) -> int:
    """Entry point of the console script.

    Args:
        args: arguments; ``None`` takes those of the process.

    Returns:
        Exit status: 0, 2 for bad input, 1 for a failing machine, or 143, 130 or 138 if SIGTERM,
            SIGINT or SIGUSR1 ended the command.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(help_text(), end="")
        return 0
    if arguments[0] == "--version":
        from lit_biqa import __version__

        print(f"lit_biqa {__version__}")
        return 0
    if arguments[0] in COMMANDS:
        return run_command(*arguments)
    if arguments[0] not in SUBCOMMANDS:
        print(f"error: {unknown(arguments[0])}", file=sys.stderr)
        return 2
    return run_command("", *arguments)


def help_text() -> str:
    """Help text: all subcommands, one line each, and their common options."""
    commands = {name: text for name, (_, text) in COMMANDS.items()}
    width = max(map(len, [*SUBCOMMANDS, *commands]))
    tables = (
        "\n".join(f"  {name:<{width}}  {text}" for name, text in table.items())
        for table in (SUBCOMMANDS, commands)
    )
    return HELP.format(**dict(zip(("subcommands", "commands"), tables, strict=True)))


def unknown(name: str) -> str:
    """The nearest subcommands of a name that is none, and all of them."""
    names = [*SUBCOMMANDS, *COMMANDS]
    near = ", ".join(difflib.get_close_matches(name, names, 2))
    hint = f" Nearest: {near}." if near else ""
    return f"there is no subcommand {name!r}.{hint} All: {', '.join(names)}."


def run_command(name: str, *arguments: str) -> int:
    """Import the module of a command, which may take seconds, and call its ``main``.

    Args:
        name: a key of `COMMANDS`; empty for the subcommands of LightningCLI.
        arguments: the arguments after the name; for LightningCLI the first is the subcommand.

    Returns:
        The exit status.
    """
    began = time.monotonic()
    from lit_biqa.compat.glibc import keep_freed_memory
    from lit_biqa.compat.versions import check
    from lit_biqa.types import InputError

    keep_freed_memory()
    try:
        # Check versions before the imports, which may fail for a wrong version.
        for library in ("lightning", "jsonargparse"):
            check(library)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        module = importlib.import_module(COMMANDS[name][0] if name else "lit_biqa.cli.main")
    except KeyboardInterrupt:  # nothing has begun yet, and imports take seconds
        return 130
    try:
        # The others tell no time.
        status = module.main(arguments) if name else module.main(arguments, began)
        sys.stdout.flush()
    except BrokenPipeError:  # as in `lit_biqa list recipes | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
