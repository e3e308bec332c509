r"""Have a trained model write texts about images, which RALI can align with.

    lit_biqa describe --run runs/score --data.test '[koniq10k/official:train]' \
        --answers 4 --out data/texts/koniq.jsonl

Each image gets a record ``{"image", "dataset", "texts"}`` with the model's texts, tags included,
and a digest by which readers detect damage. `data.texts.files` reads the file, with
`data.texts.fields: ["texts:think"]` for the reasoning alone; answers are never read as texts.
With `--model Served --model.url URL --model.name NAME` in the place of --run a served model writes.
Under torchrun, or with --shard 2/8, processes share the images. An interrupted run resumes; the
file appears once it is complete. All other arguments are settings of the model or the data that
differ from the run's.
"""

from __future__ import annotations

import argparse
import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch

from lit_biqa.backbones.vision_language import VisionLanguageModel
from lit_biqa.cli.errors import guard
from lit_biqa.cli.restore import checked_weights, instantiate_any, load, settings_of
from lit_biqa.data.datamodule import BIQADataModule
from lit_biqa.io.files import replacing
from lit_biqa.io.json_text import complete_lines, parse_json
from lit_biqa.io.seals import seal_record
from lit_biqa.methods.chat import ChatMethod
from lit_biqa.methods.served import Served
from lit_biqa.progress import track
from lit_biqa.rollout.engine import Sampling, generate
from lit_biqa.runs.folder import RunFolder
from lit_biqa.served.model import ServedModel
from lit_biqa.types import Batch, InputError, Sample

Key = tuple[str, int]
Writing: TypeAlias = ChatMethod | Served


@dataclass(frozen=True)
class Share:
    """Share of one process in the output file.

    Attributes:
        out: the output file.
        rank: rank of this process.
        ranks: number of processes.
    """

    out: Path
    rank: int
    ranks: int

    @property
    def parts(self) -> list[Path]:
        """Partial files, one per process."""
        names = [f".{self.out.name}.{rank}-of-{self.ranks}" for rank in range(self.ranks)]
        return [self.out.with_name(name) for name in names]

    def written(self, part: Path) -> dict[Key, str]:
        """Complete lines of a partial file by their image; an incomplete last line is left out."""
        texts = {}
        for number, line in enumerate(complete_lines(part), start=1):
            place = f"{part}, line {number}"
            record = parse_json(line, place)
            try:
                texts[record["dataset"], record["index"]] = f"{line}\n"
            except (KeyError, TypeError) as error:
                raise InputError(f"{place}: no text about an image; remove the file") from error
        return texts

    def resume(self) -> set[Key]:
        """Images that this process has already written; removes an incomplete last line."""
        part_of_this = self.parts[self.rank]
        done = self.written(part_of_this)
        if part_of_this.exists():
            with replacing(part_of_this) as part:
                part.write_text("".join(done.values()), encoding="utf-8")
        return set(done)

    def finish(self, samples: Sequence[Sample]) -> bool:
        """Merge all partial files in the order of the samples, if they are complete."""
        lines = {key: line for part in self.parts for key, line in self.written(part).items()}
        if any((s.dataset, s.index) not in lines for s in samples):
            return False
        with replacing(self.out) as whole:
            whole.write_text("".join(lines[s.dataset, s.index] for s in samples), encoding="utf-8")
        for part in self.parts:
            part.unlink(missing_ok=True)
        return True


def describe(options: argparse.Namespace, settings: Sequence[str]) -> None:
    """Write the share of this process; the last process to finish merges all.

    Raises:
        InputError: if the run, its data or the output is wrong.
    """
    folder = None if options.run is None else RunFolder(options.run.expanduser())
    share = _share(options)
    if share.out.exists():
        raise InputError(f"{share.out} exists already: name another file with --out")
    method, data = _method_and_data([*settings_of(folder), *settings])
    weights = None
    if isinstance(method, ChatMethod):
        weights = checked_weights(folder, options.ckpt_path)
        method.backbone.root = data.root
        method.backbone.prepare()
    data.use_transforms(None, asked_of(method).image_transform)
    data.prepare_data()
    data.setup("test")
    samples = data.samples["test"]
    done = share.resume()
    mine = [s for s in samples[share.rank :: share.ranks] if (s.dataset, s.index) not in done]
    if mine:
        data.samples["test"] = mine
        if isinstance(method, ChatMethod):
            load(method, weights)
        _write(method, data.test_dataloader(), options, share)
    if share.finish(samples):
        print(f"{len(samples)} images, {options.answers} texts each: {share.out}")
    else:
        print(f"process {share.rank} of {share.ranks} has written its share")


def _method_and_data(arguments: Sequence[str]) -> tuple[Writing, BIQADataModule]:
    method, data, _ = instantiate_any(arguments)
    if not isinstance(method, (ChatMethod, Served)):
        raise InputError(
            f"{type(method).__name__} writes no texts: name the --run of a method with a language "
            "model, such as GRPO, or --model Served"
        )
    return method, data


def asked_of(method: Writing) -> VisionLanguageModel | ServedModel:
    """Model that a method asks."""
    return method.model if isinstance(method, Served) else method.backbone


def _write(method: Writing, loader: Any, options: argparse.Namespace, share: Share) -> None:
    local = int(os.environ.get("LOCAL_RANK", "0"))
    method.to(torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu"))
    sampling = Sampling(options.temperature, options.top_k, options.top_p, options.budget)
    share.out.parent.mkdir(parents=True, exist_ok=True)
    with share.parts[share.rank].open("a", encoding="utf-8") as file:
        for batch in track(loader, "describing", unit="batches"):
            for record in records(method, batch, options.answers, sampling, options.seed):
                file.write(json.dumps(seal_record(record), ensure_ascii=False) + "\n")
            file.flush()


def records(
    method: Writing, batch: Batch, answers: int, sampling: Sampling, seed: int
) -> list[dict[str, Any]]:
    """One record for each image of a batch; texts depend only on seed and image."""
    keys = list(zip(batch["dataset"], batch["index"].tolist(), strict=True))
    chats = [method.question(batch, row) for row in range(len(keys))]
    seeds = [zlib.crc32(f"describe/{seed}/{name}/{index}".encode()) for name, index in keys]
    completions = generate(asked_of(method), chats, answers, sampling, seeds)
    return [
        {
            "image": batch["name"][row],
            "dataset": name,
            "index": index,
            "texts": [completion.text for completion in completions[row]],
        }
        for row, (name, index) in enumerate(keys)
    ]


def _share(options: argparse.Namespace) -> Share:
    environment = f"{os.environ.get('RANK', '0')}/{os.environ.get('WORLD_SIZE', '1')}"
    rank, _, ranks = (options.shard or environment).partition("/")
    if not (rank.isdecimal() and ranks.isdecimal() and int(rank) < int(ranks)):
        raise InputError(f"--shard {options.shard}: give a number and a count, such as 2/8, from 0")
    return Share(options.out.expanduser().absolute(), int(rank), int(ranks))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the texts; the exit status is 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="lit_biqa describe", description=(__doc__ or "").partition("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--run", type=Path, help="folder of a fit; none for --model Served")
    parser.add_argument("--ckpt_path", help="best or last of the run, a file, or none")
    parser.add_argument("--out", type=Path, required=True, help="JSON Lines file to write")
    parser.add_argument("--answers", type=int, default=1, help="texts for each image")
    parser.add_argument("--seed", type=int, default=0, help="seed of sampling")
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="0 takes the likeliest token"
    )
    parser.add_argument("--top-k", type=int, default=50, help="0 for all tokens")
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--budget", type=int, default=512, help="most tokens per text")
    parser.add_argument(
        "--shard", help="number of this process and count of processes, such as 0/2"
    )
    options, settings = parser.parse_known_args(arguments)
    return guard(lambda: describe(options, settings))
