"""Servers that refuse, fail, are slow or answer nonsense; and what is sent to each engine."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import runs
import torch
from conftest import REPOSITORY
from PIL import Image
from servers import FaultyServer, Reply, faulty, likely, said

from lit_biqa.__main__ import main
from lit_biqa.backbones.tiny_chat import TinyQwenVL
from lit_biqa.cli.config_files import read
from lit_biqa.readouts.expected import expected_after
from lit_biqa.readouts.words import Words
from lit_biqa.rollout.engine import Sampling, generate
from lit_biqa.served import answers, pictures
from lit_biqa.served.answers import Answer, KeptAnswers
from lit_biqa.served.client import ChatServer
from lit_biqa.served.model import ServedModel
from lit_biqa.served.pictures import Picture, data_url
from lit_biqa.served.requests import next_token, sampled
from lit_biqa.served.settings import ServerSettings, check_url
from lit_biqa.types import InputError, ask

pytest.importorskip("openai", reason="the extra served is not installed")

KEY = "key-of-the-test-0123456789"
GREEDY = Sampling(temperature=0.0, budget=8)
RATED = '<caption>\na dog\n</caption>\n<think>\nsharp\n</think>\n<answer>\n{"rating": 4}\n</answer>'


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty() as server:
        yield server


def model(server: FaultyServer, **settings: Any) -> ServedModel:
    return ServedModel(server.url, "tiny", ServerSettings(**({"patience": 20.0} | settings)))


def one(served: ServedModel, sampling: Sampling = GREEDY) -> tuple[str, bool]:
    ((completion,),) = generate(served, [ask("How good?")], 1, sampling)
    return completion.text, completion.finished


@pytest.mark.parametrize(
    "faults",
    [
        [(500, {"error": {"message": "out of memory"}}, {})],
        [(503, "not JSON", {"Content-Type": "text/html"}), (429, {}, {"Retry-After": "1"})],
        [(200, "<html>a proxy</html>", {"Content-Type": "text/html"})],
        [(200, '{"choices": [{"mess', {})],  # broken JSON
        [(200, '{"choices": [', {"Content-Length": "5000"})],  # the connection ends too early
        [(200, {"choices": []}, {}), said(3)],  # type: ignore[arg-type]
    ],
)
def test_what_may_pass_is_asked_again(server: FaultyServer, faults: list[Any]) -> None:
    server.script([*faults, said("good")])
    assert one(model(server, timeout=5.0)) == ("good", True)
    assert len(server.asked) == len(faults) + 1


def test_a_slow_answer_is_asked_again(server: FaultyServer) -> None:
    seen: list[Any] = []

    def reply(request: dict[str, Any]) -> Any:
        seen.append(request)
        if len(seen) == 1:
            time.sleep(1.0)
        return said("good")

    server.reply = reply
    assert one(model(server, timeout=0.4)) == ("good", True)
    assert len(seen) == 2
    server.reply = lambda request: time.sleep(0.5) or said("late")  # type: ignore[func-returns-value]
    with pytest.raises(InputError, match=r"more than 0\.1 s.*no answer within 0\.1 s"):
        one(model(server, timeout=0.1, patience=0.1))


def test_empty_and_cut_off_answers_are_answers(server: FaultyServer) -> None:
    for reply in (said(""), said(None)):
        server.script([reply])
        assert one(model(server)) == ("", True)
    server.script([said("the beginning", "length")])
    assert one(model(server)) == ("the beginning", False)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (said("long " * 1000), r"5,000 characters to a request for at most 8 tokens"),
        (said("4", reasoning_content="hm"), "start it without a reasoning parser"),
        ((400, {"error": {"message": "too many images"}}, {}), "status 400, too many images"),
        ((422, {"detail": "Unexpected fields: top_k"}, {}), "status 422, Unexpected fields: top_k"),
        ((413, "", {}), "refuses the request: status 413"),
        ((404, {"detail": "Not Found"}, {}), "Give the URL up to /v1|give the URL up to /v1"),
    ],
)
def test_what_cannot_pass_ends_the_test(server: FaultyServer, reply: Any, message: str) -> None:
    server.script([reply])
    with pytest.raises(InputError, match=message):
        one(model(server))
    assert len(server.asked) == 1


def test_the_budget_of_retries_is_that_of_the_whole_test(server: FaultyServer) -> None:
    fault: Reply = (500, {"error": "broken"}, {})
    server.script([fault, said("good"), fault, said("good"), fault])
    served = model(server, retry_budget=2)
    assert [one(served) for _ in range(2)] == [("good", True)] * 2
    with pytest.raises(InputError, match=r"more than 2 times.*status 500, broken.*are kept"):
        one(served)


def test_wrong_names_keys_and_programs(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_KEY", raising=False)
    settings = ServerSettings(key_variable="TEST_KEY")
    with pytest.raises(InputError, match=r"no such model\. Did you mean tiny\?"):
        ChatServer(server.url, "tinny", settings).check()
    server.key = KEY
    with pytest.raises(InputError, match="the variable TEST_KEY is not set"):
        ChatServer(server.url, "tiny", settings).check()
    monkeypatch.setenv("TEST_KEY", "another")
    with pytest.raises(InputError, match="the variable TEST_KEY holds a key that it refuses"):
        ChatServer(server.url, "tiny", settings).check()
    monkeypatch.setenv("TEST_KEY", KEY)
    ChatServer(server.url, "tiny", settings).check()
    for models in ("<html>", {"hello": 1}, [1], {"data": 4}):
        server.models = models
        with pytest.raises(InputError, match="is no OpenAI-compatible server"):
            ChatServer(server.url, "tiny", settings).check()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:8000/v1", "give http://HOST:PORT/v1"),
        ("ftp://host/v1", "give http://HOST:PORT/v1"),
        ("http://host:port/v1", "is no URL"),
        (f"http://user:{KEY}@host/v1", "holds a user, a password or a query"),
        (f"http://host/v1?key={KEY}", "holds a user, a password or a query"),
    ],
)
def test_wrong_urls(url: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        check_url(url)
    assert KEY not in str(caught.value)


def test_settings_out_of_range() -> None:
    wrong: tuple[dict[str, Any], ...]
    wrong = ({"concurrency": 0}, {"timeout": 0}, {"max_pixels": 10}, {"grid": 0})
    for settings in wrong:
        with pytest.raises(InputError, match=f"server.{next(iter(settings))} is"):
            ServerSettings(**settings)


def test_a_missing_extra(monkeypatch: pytest.MonkeyPatch, server: FaultyServer) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(InputError, match=r"pip install 'lit_biqa\[served\]'"):
        model(server)


def test_requests_say_what_a_checkpoint_could_change() -> None:
    chat, drawn = ask("How?", system="Be short."), Sampling(0.7, 50, 0.95, 16)
    vllm = sampled(chat, "m", "vllm", drawn, 3, 0)
    assert vllm["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "How?"},
    ]
    numbers = {"temperature": 0.7, "top_p": 0.95, "top_k": 50, "max_completion_tokens": 16}
    numbers |= {"repetition_penalty": 1.0, "min_p": 0.0}
    assert {name: vllm[name] for name in numbers} == numbers
    assert sampled(chat, "m", "sglang", drawn, 3, 0) == vllm
    assert sampled(chat, "m", "vllm", drawn, 3, 1)["seed"] != vllm["seed"]
    assert sampled(chat, "m", "vllm", Sampling(1.0, 0), 3, 0)["top_k"] == -1
    own = json.loads(sampled(chat, "m", "transformers", drawn, 3, 0)["generation_config"])
    assert own == {"do_sample": True, "top_k": 50, "repetition_penalty": 1.0}
    plain = {"model", "messages", "temperature", "max_completion_tokens"}
    assert sampled(chat, "m", "openai", GREEDY, 3, 0).keys() == plain
    with pytest.raises(InputError, match="engine=openai has no top_k"):
        sampled(chat, "m", "openai", drawn, 3, 0)


def test_the_beginning_of_an_answer() -> None:
    chat = ask("How?", opening="The quality is")
    vllm, sglang = (next_token(chat, "m", engine) for engine in ("vllm", "sglang"))
    assert vllm["messages"][-1] == {"role": "assistant", "content": "The quality is"}
    assert vllm["continue_final_message"] and sglang["continue_final_message"]
    assert vllm["add_generation_prompt"] is False and "add_generation_prompt" not in sglang
    for engine in ("transformers", "openai"):
        with pytest.raises(InputError, match="cannot continue an answer"):
            next_token(chat, "m", engine)


def test_pictures_reach_the_model_as_our_own_transform_makes_them() -> None:
    backbone = TinyQwenVL(width=32, layers=1)
    see = Picture(backbone.min_pixels, backbone.max_pixels, 28)
    for size in ((84, 84), (61, 90), (20, 70), (400, 300), (29, 29)):
        image = Image.effect_noise(size, 80).convert("RGB")
        kind, _, content = data_url(see(image)).partition("base64,")
        sent = Image.open(io.BytesIO(base64.b64decode(content)))
        assert kind == "data:image/png;" and sent.format == "PNG"
        assert sent.width * sent.height <= backbone.max_pixels
        assert torch.equal(backbone.image_transform(sent), backbone.image_transform(image))
    image = Image.effect_noise((61, 90), 80).convert("RGB")
    untouched = Image.open(io.BytesIO(Picture(1, 10_000, 1)(image).numpy().tobytes()))
    assert untouched.tobytes() == image.tobytes()


def test_pictures_over_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="are too narrow"):
        Picture(3136, 12544, 28)(Image.new("RGB", (2000, 9)))
    monkeypatch.setattr(pictures, "SENT_BYTES", 100)
    with pytest.raises(InputError, match=r"84 x 84 pixels make a PNG of .* the limit is 100"):
        Picture(3136, 12544, 28)(Image.effect_noise((84, 84), 80).convert("RGB"))


def test_level_words_by_expectation(server: FaultyServer) -> None:
    odds = {" good": 0.3, "good": 0.1, " bad": 0.2, " The": 0.4}
    server.script([likely(**odds)])
    words = Words({"bad": 1.0, "fair": 3.0, "good": 4.0})
    chats = [ask("How?", opening="The quality is")]
    (verdict,) = words.verdicts(words.judge(model(server), chats, 8))
    assert verdict.score == pytest.approx((0.4 * 4 + 0.2 * 1) / 0.6)
    assert verdict.level == "good"
    server.script([likely(**{" The": 0.9})])
    (verdict,) = words.verdicts(words.judge(model(server), chats, 8))
    assert math.isnan(verdict.score) and verdict.status == "no word is likely"


def test_ratings_by_expectation(server: FaultyServer) -> None:
    """3.5 with probability 0.6 and 5 with 0.2, of what is said about digits."""

    def reply(request: dict[str, Any]) -> Any:
        begun = request["messages"][-1]["content"]
        if begun.endswith("3."):
            return likely(**{"5": 0.9})
        return likely(**({"3": 0.6, "5": 0.2} if begun.endswith(": ") else {"x": 1.0}))

    server.reply = reply
    chats = [ask("How?", opening='{"rating": ')]
    ((mean, deviation),) = expected_after(model(server), chats, 8)
    assert mean == pytest.approx(0.75 * 3.5 + 0.25 * 5)
    assert deviation == pytest.approx(math.sqrt(0.75 * 0.25) * 1.5)


def test_no_log_probabilities(server: FaultyServer) -> None:
    server.script([said("good", "length")])
    with pytest.raises(InputError, match="gives no log-probabilities"):
        model(server).check_odds("The quality is")


def test_kept_answers_survive_a_kill_within_a_line(tmp_path: Path) -> None:
    kept = KeptAnswers(tmp_path)
    kept.add("one", Answer("good", True, {" a": -0.5}))
    kept.add("two", Answer("\u2028bad\n", False))
    file = tmp_path / "answers-0.jsonl"
    file.write_text(file.read_text() + '{"request": "three", "ans')
    again = KeptAnswers(tmp_path)
    assert again.found == 2
    again.add("four", Answer("", True))
    other = KeptAnswers(tmp_path, rank=1)
    assert other.get("one") == Answer("good", True, {" a": -0.5})
    assert other.get("two") == Answer("\u2028bad\n", False)
    assert other.get("three") is None and other.get("four") == Answer("", True)
    file.write_text(file.read_text().replace("good", "poor"))
    with pytest.raises(InputError, match="line 1: its content differs from the digest"):
        KeptAnswers(tmp_path)


def test_the_reader_of_replies_takes_only_finite_numbers() -> None:
    tokens = [{"token": "a", "logprob": -1.0}, {"token": "b", "logprob": -math.inf}]
    choice = {"message": {"content": "a"}, "finish_reason": "stop"}
    reply = {"choices": [choice | {"logprobs": {"content": [{"top_logprobs": tokens}]}}]}
    assert answers.read_reply(reply).likeliest == {"a": -1.0}


def command(server: FaultyServer, folder: Path, *more: str) -> list[str]:
    data = folder / "test.csv"
    if not data.exists():
        runs.write_images(folder, "test", 4, 0)
    settings = [f"--model.url={server.url}", "--model.name=tiny", "--model.server.patience=0"]
    settings += ["--model.server.key_variable=TEST_KEY", "--model.server.concurrency=1"]
    loader = ["--data.loader.num_workers=0", "--data.loader.eval_batch_size=2"]
    run = ["--run", str(folder / "run"), "--report.bootstrap=0"]
    return ["test", "--model=Served", *settings, f"--data.test=['{data}']", *loader, *run, *more]


def test_a_broken_test_goes_on_where_it_was_and_tells_the_key_to_nobody(
    server: FaultyServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    server.key = KEY
    server.script([said(RATED)] * 3 + [(404, {"error": {"message": f"see {KEY}"}}, {})])
    assert main(command(server, tmp_path)) == 2
    told = capsys.readouterr().err
    assert "(status 404, see ***)" in told
    server.script([said(RATED)])
    assert main(command(server, tmp_path)) == 0
    assert "3 answers of an earlier test" in caplog.text
    # Four pictures and four texts, each once, beside the request that failed.
    assert len(server.asked) == 4 + 4 + 1
    with (tmp_path / "run/test/predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["condition"], row["score"]) for row in rows] == [
        *[("image", "4.000000")] * 4,
        *[("text", "4.000000")] * 4,
    ]
    printed = told + caplog.text + "".join(capsys.readouterr())
    written = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert KEY not in printed and KEY.encode() not in written
    assert b"TEST_KEY" in (tmp_path / "run/config.yaml").read_bytes()


def refusing(*refused: int) -> Any:
    """Reply that refuses requests with some of the pictures, known by the order they come in."""
    seen: list[str] = []

    def reply(request: dict[str, Any]) -> Reply:
        content = request["messages"][-1]["content"]
        if isinstance(content, str):
            return said(RATED)
        picture = next(part for part in content if part["type"] == "image_url")
        url = picture["image_url"]["url"]
        if url not in seen:
            seen.append(url)
        return (413, {"error": "too large"}, {}) if seen.index(url) in refused else said(RATED)

    return reply


def test_a_refused_picture_has_no_score_and_the_others_have(
    server: FaultyServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.reply = refusing(1)
    assert main(command(server, tmp_path)) == 0
    # Three pictures with their texts, each asked once, and the refused one.
    assert len(server.asked) == 3 * 2 + 1
    with (tmp_path / "run/test/predictions.csv").open(newline="") as file:
        rows = [(row["condition"], row["score"], row["status"]) for row in csv.DictReader(file)]
    assert rows.count(("image", "4.000000", "ok")) == rows.count(("text", "4.000000", "ok")) == 3
    failed = [row for row in rows if row[2] != "ok"]
    assert [row[:2] for row in failed] == [("image", "nan"), ("text", "nan")]
    assert all("refuses the request: status 413, too large" in row[2] for row in failed)


def test_a_server_that_refuses_all_of_the_first_pictures_ends_the_test(
    server: FaultyServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.write_images(tmp_path, "test", 12, 0)
    server.reply = refusing(*range(12))
    assert main(command(server, tmp_path)) == 2
    assert "refused all of the first 8 pictures" in capsys.readouterr().err
    assert len(server.asked) == 8


def test_the_recipe_asks_as_that_of_the_same_weights_here(
    server: FaultyServer, tmp_path: Path
) -> None:
    here, there = (
        read(REPOSITORY / f"configs/{folder}/q_insight.yaml")["model"]["init_args"]
        for folder in ("published", "served")
    )
    assert there["paradigm"]["init_args"]["question"] == here["paradigm"]["init_args"]["question"]
    assert there["readouts"] == here["readouts"]
    server.script([said('<answer>{"rating": 3.5}</answer>')])
    name = there["name"]
    server.models = {"data": [{"id": name}]}
    recipe = ["--config=served/q_insight", *command(server, tmp_path)[2:]]
    assert main(["test", *recipe, f"--model.name={name}"]) == 0
    assert (tmp_path / "run/test/predictions.csv").read_text().count("3.500000") == 8
    (text, picture) = server.asked[0]["messages"][1]["content"]
    assert text["text"] in there["paradigm"]["init_args"]["question"]
    assert picture["type"] == "image_url"


def test_no_server_is_told_before_data_is_read(
    server: FaultyServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = command(server, tmp_path, f"--data.test=['{tmp_path}/absent.csv']")
    server.models = {"data": []}
    assert main(args) == 2
    assert "model.name=tiny" in capsys.readouterr().err
    server.server_close()
    assert main(args) == 2
    assert "no server answers at" in capsys.readouterr().err


def test_words_by_probability_need_an_engine_that_goes_on(
    server: FaultyServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script([likely(**{" good": 0.75, " bad": 0.25})])
    words = ["--model.readouts", "[LevelLogits]"]
    assert main(command(server, tmp_path, *words, "--model.server.engine=openai")) == 2
    assert "cannot continue an answer" in capsys.readouterr().err
    assert main(command(server, tmp_path, *words)) == 0
    rows = (tmp_path / "run/test/predictions.csv").read_text()
    assert rows.count("3.250000") == 4  # 0.75 * 4 + 0.25 * 1
