"""Limits of a server, which its command can change."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from lit_biqa import limits
from lit_biqa.types import InputError


@dataclass(frozen=True)
class ServerLimits:
    """Limits on what clients send, and on how much of it.

    Attributes:
        picture_bytes: most bytes of a picture.
        picture_pixels: most pixels of a picture, width times height.
        pictures: most pictures of a request.
        request_bytes: most bytes of a request.
        seconds: time of a request, from its first byte to its answer.
        per_minute: requests of one client address in a minute.
        waiting: most pictures of all clients that wait to be scored.

    Raises:
        InputError: for a limit below 1, or for more pictures in a request than may wait.
    """

    picture_bytes: int = limits.UPLOAD_BYTES
    picture_pixels: int = limits.UPLOAD_PIXELS
    pictures: int = limits.UPLOAD_PICTURES
    request_bytes: int = limits.REQUEST_BYTES
    seconds: int = limits.REQUEST_SECONDS
    per_minute: int = limits.REQUESTS_PER_MINUTE
    waiting: int = limits.WAITING_PICTURES

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise InputError(f"{name}={value}: give at least 1")
        if self.pictures > self.waiting:
            raise InputError(
                f"pictures={self.pictures} of a request are more than waiting={self.waiting}: "
                "raise waiting"
            )
