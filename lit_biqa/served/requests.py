"""Chats as requests to ``/chat/completions``, in the words of each engine."""

from __future__ import annotations

import json
import zlib
from typing import Any

from lit_biqa.rollout.engine import Sampling
from lit_biqa.served.pictures import data_url
from lit_biqa.served.settings import Engine
from lit_biqa.types import IMAGE, Chat, InputError, Message

#: Likeliest tokens of a request for log-probabilities: the most that OpenAI's interface and vLLM's
#: default allow.
LIKELIEST = 20


def sampled(
    chat: Chat, name: str, engine: Engine, sampling: Sampling, seed: int, number: int
) -> dict[str, Any]:
    """Request for one completion of a chat.

    Everything that a checkpoint's ``generation_config.json`` could change is said: servers take
    what is left unsaid from there, such as the repetition penalty of Qwen2.5-VL.

    Args:
        chat: the chat.
        name: name of the model on the server.
        engine: program behind the URL.
        sampling: how tokens are chosen.
        seed: seed of the chat.
        number: number of the completion among those of the chat.

    Raises:
        InputError: if the engine has no field for what is asked.
    """
    request = _asking(chat, name, engine)
    request |= {"max_completion_tokens": sampling.budget, "temperature": sampling.temperature}
    drawn = sampling.temperature > 0
    if drawn:
        request |= {"top_p": sampling.top_p, "seed": zlib.crc32(f"{seed}/{number}".encode()) >> 1}
    top_k = sampling.top_k if drawn else 0
    if engine == "transformers":
        config = {"do_sample": drawn, "repetition_penalty": 1.0}
        config |= {"top_k": top_k} if drawn else {}
        request["generation_config"] = json.dumps(config)
    elif engine != "openai":
        request |= {"top_k": top_k or -1, "repetition_penalty": 1.0, "min_p": 0.0}
    elif top_k:
        raise InputError(
            f"model.server.engine=openai has no top_k, and a readout samples with top_k={top_k}: "
            "set top_k to 0 in its sampling, which is another protocol, or name the engine"
        )
    return request


def next_token(chat: Chat, name: str, engine: Engine) -> dict[str, Any]:
    """Request for the log-probabilities of the token after a chat.

    Raises:
        InputError: if the engine has no field for the beginning of an answer.
    """
    asked = {"max_completion_tokens": 1, "temperature": 0.0}
    asked |= {"logprobs": True, "top_logprobs": LIKELIEST}
    return _asking(chat, name, engine) | asked


def _asking(chat: Chat, name: str, engine: Engine) -> dict[str, Any]:
    messages = [_message(message, chat) for message in chat.messages]
    request: dict[str, Any] = {"model": name, "messages": messages}
    if chat.opening:
        if engine not in ("vllm", "sglang"):
            raise InputError(
                f"model.server.engine={engine} cannot continue an answer that is begun for the "
                "model, as words by probability and reading=expected need: use vllm or sglang, or "
                "a readout that reads what the model writes"
            )
        messages.append({"role": "assistant", "content": chat.opening})
        request["continue_final_message"] = True
        request |= {"add_generation_prompt": False} if engine == "vllm" else {}
    return request


def _message(message: Message, chat: Chat) -> dict[str, Any]:
    """Message with its picture as a data URL; text alone stays a string."""
    before, placed, after = message.text.partition(IMAGE)
    if not placed or chat.pixels is None:
        return {"role": message.role, "content": message.text}
    picture = {"type": "image_url", "image_url": {"url": data_url(chat.pixels)}}
    texts = [[{"type": "text", "text": text}] if text else [] for text in (before, after)]
    return {"role": message.role, "content": [*texts[0], picture, *texts[1]]}
