"""Settings of a served model: how its server is asked, and what it understands."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from lit_biqa.types import InputError, check_range

Engine = Literal["vllm", "sglang", "transformers", "openai"]
"""Program behind the URL; each names what the OpenAI interface lacks in its own way."""


@dataclass(frozen=True)
class ServerSettings:
    """How a server is asked.

    Attributes:
        engine: program that answers: it decides how ``top_k`` and the beginning of an answer are
            sent. ``openai`` sends only what the OpenAI interface has, and refuses the rest.
        key_variable: environment variable with the API key; without one no key is sent. The key
            itself stands in no setting and in no file.
        concurrency: requests at the same time.
        timeout: seconds that one request may take.
        patience: seconds that a failing request is repeated, with growing pauses; long enough for a
            server to start again.
        retry_budget: repeated requests of a whole test, after which it ends.
        min_pixels: smaller images are enlarged to this number of pixels.
        max_pixels: larger images are scaled down to it.
        grid: sides of the images that are sent are multiples of it: 28 is the grid of Qwen2.5-VL,
            whose server then changes them no further; 1 leaves images within the limits as they
            are.

    Raises:
        InputError: for a number out of range.
    """

    engine: Engine = "vllm"
    key_variable: str = "OPENAI_API_KEY"
    concurrency: int = 16
    timeout: float = 300.0
    patience: float = 600.0
    retry_budget: int = 1000
    min_pixels: int = 3136
    max_pixels: int = 12_845_056
    grid: int = 28

    def __post_init__(self) -> None:
        check_range("server.concurrency", self.concurrency, 1, 1024)
        check_range("server.timeout", self.timeout, 0.001)
        check_range("server.patience", self.patience, 0)
        check_range("server.retry_budget", self.retry_budget, 0)
        check_range("server.min_pixels", self.min_pixels, 1)
        check_range("server.max_pixels", self.max_pixels, self.min_pixels)
        check_range("server.grid", self.grid, 1, 256)

    @property
    def key(self) -> str:
        """The API key; empty if the variable is not set."""
        return os.environ.get(self.key_variable, "").strip()


def check_url(url: str) -> None:
    """Refuse a URL that no server can be asked at, or that holds a secret.

    Raises:
        InputError: says which part is wrong; the URL is not printed where it may hold a key.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"model.url is no URL ({error}): give http://HOST:PORT/v1") from None
    if parts.username or parts.password or parts.query:
        raise InputError(
            "model.url holds a user, a password or a query, which would be saved with the run: "
            "name the variable of the key with model.server.key_variable"
        )
    if parts.scheme not in ("http", "https") or not host:
        raise InputError(f"model.url={url}: give http://HOST:PORT/v1 or https://HOST/v1")
