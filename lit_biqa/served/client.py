"""A chat server over HTTP: its models, its answers, and what goes wrong on the way."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from lit_biqa.distributed import alive
from lit_biqa.limits import CHARACTERS_PER_TOKEN
from lit_biqa.served.answers import Answer, BrokenReplyError, read_reply
from lit_biqa.served.settings import ServerSettings, check_url
from lit_biqa.types import InputError, nearest

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds; each pause is twice the last
_PASSING = (408, 409, 429)  # beside 500 and above: states that may pass
_OF_REQUEST = (400, 413, 422)  # states that may concern one request alone
_SHOWN = 200  # characters of a server's message


class RefusedError(InputError):
    """A request that the server refuses, and that it would refuse again."""


class ChatServer:
    """Client of an OpenAI-compatible chat server; all methods may be called by many threads.

    Args:
        url: base URL, such as ``http://127.0.0.1:8000/v1``.
        name: name of the model on the server.
        settings: how it is asked.

    Raises:
        InputError: for a wrong URL, or if the package ``openai`` is absent.
    """

    def __init__(self, url: str, name: str, settings: ServerSettings) -> None:
        check_url(url)
        try:
            import openai
        except ImportError:
            raise InputError(
                "served models need the extra served: pip install 'lit_biqa[served]'"
            ) from None
        self.url, self.name, self.settings = url, name, settings
        self._key, self._errors = settings.key, openai
        self._client = openai.OpenAI(
            base_url=url,
            api_key=self._key or "none",  # the package demands one, servers without keys ignore it
            timeout=settings.timeout,
            max_retries=0,
        )
        # It logs every request as information.
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        self._closing, self._lock, self._retries = threading.Event(), threading.Lock(), 0

    def check(self) -> None:
        """Look for the model among those of the server.

        Raises:
            InputError: if there is no such server, it refuses the key, or it has no such model.
        """
        try:
            listed: Any = self._client.get("/models", cast_to=object)
            names = [str(model["id"]) for model in listed["data"]]
        except self._errors.APIStatusError as error:
            raise self._refused(error) from None
        except self._errors.APIConnectionError as error:
            raise InputError(
                f"no server answers at {self.url} ({self._reason(error)}): start it, or correct "
                "model.url"
            ) from None
        except (KeyError, TypeError, ValueError):
            raise InputError(
                f"{self.url} is no OpenAI-compatible server: its reply to GET /models lists no "
                "models. Give the URL up to /v1"
            ) from None
        if self.name not in names:
            raise InputError(
                f"model.name={self.name}: {self.url} has no such model{nearest(self.name, names)}"
            )

    def ask(self, request: dict[str, Any]) -> Answer:
        """Answer to a request; failures that may pass are repeated, with growing pauses.

        Raises:
            RefusedError: if the server refuses this request.
            InputError: if it refuses all, fails for longer than ``patience`` or more often than
                ``retry_budget``, or gives an answer beyond its budget of tokens.
        """
        began, pause = time.monotonic(), _FIRST_PAUSE
        while True:
            try:
                reply = self._client.post("/chat/completions", cast_to=object, body=request)
                return self._within_budget(read_reply(reply), request)
            except self._errors.APIStatusError as error:
                if error.status_code < 500 and error.status_code not in _PASSING:
                    raise self._refused(error) from None
                reason, wanted = self._reason(error), _wanted_pause(error)
            except (self._errors.APIError, BrokenReplyError, ValueError) as error:
                if isinstance(error, InputError):
                    raise
                reason, wanted = self._reason(error), 0.0
            self._spend(reason, time.monotonic() - began + max(pause, wanted))
            self._closing.wait(max(pause, wanted))
            pause = min(2 * pause, _LONGEST_PAUSE)
            alive()

    def close(self) -> None:
        """End all requests; those that run fail at once."""
        self._closing.set()
        self._client.close()

    def _spend(self, reason: str, waited: float) -> None:
        """Count a retry, or give up."""
        with self._lock:
            self._retries += 1
            count = self._retries
        kept = "answers so far are kept, and the same command goes on from there"
        if self._closing.is_set():
            raise InputError(f"the request was given up: {reason}")
        if waited > self.settings.patience:
            raise InputError(
                f"{self.url} failed for more than {self.settings.patience:g} s "
                f"(model.server.patience), last with: {reason}; {kept}"
            )
        if count > self.settings.retry_budget:
            raise InputError(
                f"{self.url} failed more than {self.settings.retry_budget} times "
                f"(model.server.retry_budget), last with: {reason}; {kept}"
            )
        if count == 1:
            log.warning("%s failed and is asked again: %s", self.url, reason)

    def _within_budget(self, answer: Answer, request: dict[str, Any]) -> Answer:
        most = CHARACTERS_PER_TOKEN * request["max_completion_tokens"]
        if len(answer.text) > most:
            raise InputError(
                f"{self.url} gave an answer of {len(answer.text):,} characters to a request for at "
                f"most {request['max_completion_tokens']:,} tokens: it ignores "
                "max_completion_tokens, and its answers cannot be compared; use another server"
            )
        return answer

    def _refused(self, error: Any) -> InputError:
        if error.status_code in (401, 403):
            variable = self.settings.key_variable
            state = "holds a key that it refuses" if self._key else "is not set"
            return InputError(f"{self.url} wants a key, and the variable {variable} {state}")
        if error.status_code == 404:
            return InputError(
                f"{self.url} is no OpenAI-compatible server, or has no such model "
                f"({self._reason(error)}): give the URL up to /v1"
            )
        refused = RefusedError if error.status_code in _OF_REQUEST else InputError
        return refused(f"{self.url} refuses the request: {self._reason(error)}")

    def _reason(self, error: Any) -> str:
        """Reason of a failure, in a line without the key."""
        if isinstance(error, self._errors.APIStatusError):
            text = f"status {error.status_code}, {_told(error.body)}"
        elif isinstance(error, self._errors.APITimeoutError):
            text = f"no answer within {self.settings.timeout:g} s (model.server.timeout)"
        else:
            text = str(error.__cause__ or error)
        text = text.replace(self._key, "***") if self._key else text
        return " ".join(text.split())[:_SHOWN]


def _told(body: Any) -> str:
    """Message in the body of an error, whichever way the server wraps it."""
    while isinstance(body, dict):
        body = next((body[key] for key in ("message", "detail", "error") if key in body), "")
    return str(body or "without a message")


def _wanted_pause(error: Any) -> float:
    """Seconds that the server asks to wait, 0 if it says nothing."""
    told = error.response.headers.get("retry-after", "")
    return min(float(told), 600.0) if told.isdecimal() else 0.0
