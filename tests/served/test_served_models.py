"""A real server, `transformers serve`, beside our own engine: the same model, the same answers."""

from __future__ import annotations

import csv
import importlib.util
import json
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs
import yaml
from packaging.version import Version
from PIL import Image
from servers import LIMIT, RealServer

from lit_biqa.__main__ import main
from lit_biqa.backbones.qwen_vl import QwenVL
from lit_biqa.backbones.tiny_chat import TinyQwenVL
from lit_biqa.backbones.tuning import Tuning
from lit_biqa.cli import describe
from lit_biqa.rollout.engine import ChatModel, Sampling, generate
from lit_biqa.served.answers import Answer, KeptAnswers
from lit_biqa.served.model import ServedModel
from lit_biqa.served.settings import ServerSettings
from lit_biqa.types import Chat, InputError, ask

NEEDED = ("openai", "fastapi", "uvicorn")
ABSENT = [name for name in NEEDED if importlib.util.find_spec(name) is None]
OLD = Version(version("transformers")) < Version("5.24")
pytestmark = [
    pytest.mark.skipif(bool(ABSENT), reason=f"not installed: {', '.join(ABSENT)}"),
    pytest.mark.skipif(OLD, reason="transformers serve before 5.24 answers with state 500"),
]

PIXELS = 112 * 112


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose words depend on what it reads, and that says no special token."""
    folder = tmp_path_factory.mktemp("served")
    model = TinyQwenVL(layers=2)
    model.load()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data *= 3
    special = [token for token in model.tokenizer.added_tokens_decoder if token != model.end[0]]
    model.head.weight.data[special] = 0.0
    model.save(folder / "model", model.state())
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RealServer]:
    server = RealServer(folder / "model", folder / "server.log")
    yield server
    server.kill()


@pytest.fixture(scope="module")
def own(folder: Path) -> QwenVL:
    """The same folder in our own engine."""
    backbone = QwenVL(str(folder / "model"), Tuning(precision="float32"), max_pixels=PIXELS)
    backbone.load()
    return backbone


def served(server: RealServer, **settings: Any) -> ServedModel:
    usual: dict[str, Any] = {"engine": "transformers", "max_pixels": PIXELS, "concurrency": 4}
    return ServedModel(server.url, str(server.model), ServerSettings(**(usual | settings)))


def chats(see: Any) -> list[Chat]:
    """With and without image and system prompt, image before and behind the text."""
    pictures = [
        Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8))
        for width, height in ((90, 61), (300, 200))
    ]
    return [
        ask("How good is it?", see(pictures[0])),
        ask("What is your overall rating?<|image|>", see(pictures[1]), "Be short."),
        ask("The image is blurry and very dark. What is its quality?", system="Be short."),
    ]


def texts(model: ChatModel, asked: list[Chat], sampling: Sampling) -> list[tuple[str, bool]]:
    """Answers without space around them, which this server takes away."""
    return [(one.text.strip(), one.finished) for (one,) in generate(model, asked, 1, sampling)]


def test_greedy_answers_are_those_of_our_engine_token_by_token(
    server: RealServer, own: QwenVL
) -> None:
    there = served(server)
    there.check()
    pixels = chats(lambda image: image)
    ours, theirs = _both(pixels, own, there)
    for budget in (*range(1, 9), 24):  # each prefix of the answers
        greedy = Sampling(temperature=0.0, budget=budget)
        assert texts(there, theirs, greedy) == texts(own, ours, greedy)
    assert len(set(texts(own, ours, greedy))) == 3
    likeliest = Sampling(temperature=1.0, top_k=1, budget=8)  # top_k reaches the server
    assert texts(there, theirs, likeliest) == texts(own, ours, likeliest)


def _both(pictures: list[Chat], own: QwenVL, there: ServedModel) -> tuple[list[Chat], list[Chat]]:
    """The same chats with pixels as each takes them."""

    def seen(see: Any) -> list[Chat]:
        return [
            chat if chat.pixels is None else Chat(chat.messages, see(chat.pixels))
            for chat in pictures
        ]

    return seen(own.image_transform), seen(there.image_transform)


def test_a_server_without_the_model_log_probabilities_or_openings(server: RealServer) -> None:
    settings = ServerSettings(engine="transformers")
    with pytest.raises(InputError, match="has no such model"):
        ServedModel(server.url, "another", settings).check()
    with pytest.raises(InputError, match="gives no log-probabilities"):
        served(server).check_odds("")
    with pytest.raises(InputError, match="cannot continue an answer"):
        served(server).check_odds("The quality is")


def settings(server: RealServer, data: Path) -> list[str]:
    readout = {"class_path": "lit_biqa.readouts.ratings.Rated", "init_args": {}}
    readout["init_args"] = {
        "protocol": "matched",
        "texts": ["caption"],
        "masks": ["both"],
        "sampling": {"temperature": 0.0, "budget": 12},
    }
    model = {"engine": "transformers", "max_pixels": PIXELS, "concurrency": 1, "patience": LIMIT}
    return [
        *("--model=Served", f"--model.url={server.url}", f"--model.name={server.model}"),
        *(f"--model.server.{name}={value}" for name, value in model.items()),
        f"--model.readouts={yaml.safe_dump([readout], default_flow_style=True)}",
        *("--model.paradigm=ChainOfThought", f"--data.test=['{data}']"),
        *("--data.loader.num_workers=0", "--data.loader.eval_batch_size=3"),
    ]


def rows(run: Path) -> list[dict[str, str]]:
    """Predictions, without time, digest of local weights, and space around an answer."""
    with (run / "test/predictions.csv").open(newline="") as file:
        return [
            {name: cell.strip() for name, cell in row.items() if name not in ("seconds", "weights")}
            for row in csv.DictReader(file)
        ]


def test_a_test_and_descriptions_are_those_of_our_engine(
    server: RealServer, own: QwenVL, folder: Path
) -> None:
    data = runs.write_images(folder, "test", 5, 0)
    given = settings(server, data)
    assert main(["test", *given, "--run", str(folder / "whole"), "--report.bootstrap=0"]) == 0
    tested = rows(folder / "whole")
    assert {row["condition"] for row in tested} == {"text", "text-both"}
    assert all(row["text"] for row in tested)  # the second passes were asked
    own_model = {"class_path": "lit_biqa.backbones.qwen_vl.QwenVL"}
    backbone = {"pretrained": str(folder / "model"), "max_pixels": PIXELS}
    own_model |= {"init_args": backbone | {"tuning": {"precision": "float32"}}}  # type: ignore[dict-item]
    local = ["--model=GRPO", f"--model.backbone={json.dumps(own_model)}", *given[-5:]]
    local += ["--model.optimizer=torch.optim.AdamW", "--ckpt_path=none"]
    assert main(["test", *local, "--run", str(folder / "own"), "--report.bootstrap=0"]) == 0
    assert tested == rows(folder / "own")
    for name, model in (("theirs", given), ("ours", local)):
        more = ["--temperature=0", "--budget=5", f"--out={folder / name}.jsonl"]
        assert describe.main([*model, *more]) == 0
    theirs, ours = (
        [json.loads(line)["texts"] for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in ("theirs", "ours")
    )
    assert len(theirs) == 5
    assert theirs == [[text.strip()] for (text,) in ours]


def test_a_server_that_is_killed_and_started_again(
    server: RealServer,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = runs.write_images(folder, "again", 5, 0)
    keep, start = KeptAnswers.add, threading.Thread(target=server.start)
    asked: list[str] = []

    def add(kept: KeptAnswers, request: str, answer: Answer) -> None:
        keep(kept, request, answer)
        asked.append(request)
        if len(asked) == 2:
            server.kill()
            start.start()

    monkeypatch.setattr(KeptAnswers, "add", add)
    run = ["--run", str(folder / "killed"), "--report.bootstrap=0"]
    status = main(["test", *settings(server, data), *run])
    start.join()
    assert status == 0
    assert "failed and is asked again" in caplog.text
    assert len(set(asked)) == len(asked) > 5
    texts = [row["text"] for row in rows(folder / "killed")]
    assert texts == [row["text"] for row in rows(folder / "whole")]
