"""The server: API and page in one application, with a folder of its own that ends with it."""

from __future__ import annotations

import ipaddress
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lit_biqa.app.guards import App, Guards
from lit_biqa.app.service import Service
from lit_biqa.app.uploads import Uploads
from lit_biqa.types import InputError

_CONNECTIONS = 512  # open at once; uvicorn answers further ones with 503
_ENDING = 5  # seconds that open connections have once the server is told to end


@contextmanager
def application(service: Service, host: str = "127.0.0.1") -> Iterator[App]:
    """Application of a service; its folder of uploads is deleted when the context ends.

    Args:
        service: what answers.
        host: address that the server listens on. On loopback, requests that name another host are
            refused, so that no page of another site can ask through a name of its own.
    """
    with tempfile.TemporaryDirectory(prefix="lit_biqa-serve-") as folder:
        # gradio reads these when it is imported.
        os.environ |= {"GRADIO_TEMP_DIR": f"{folder}/gradio", "GRADIO_ANALYTICS_ENABLED": "False"}
        import gradio as gr
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        from lit_biqa.app.api import make_api
        from lit_biqa.app.page import Page, theme
        from lit_biqa.app.style import CSS

        given = service.limits
        kept = Path(folder).resolve() / "uploads"  # not gradio's, from which it answers requests
        kept.mkdir()
        uploads = Uploads(kept, given.picture_bytes, 2 * given.seconds)
        app = gr.mount_gradio_app(
            make_api(service, uploads),
            Page(service, uploads).blocks,
            path="/",
            footer_links=[],
            app_kwargs={"openapi_url": None},
            max_file_size=given.picture_bytes,
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            run_history=False,
            theme=theme(),
            css=CSS,
        )
        hosts = [host, "127.0.0.1", "localhost", "[::1]"] if on_loopback(host) else ["*"]
        yield Guards(
            TrustedHostMiddleware(app, allowed_hosts=hosts), given.per_minute, given.request_bytes
        )


def on_loopback(host: str) -> bool:
    """True for an address that only this machine can reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listening(host: str, port: int) -> socket.socket:
    """Socket that listens on an address.

    Raises:
        InputError: if that cannot be; says why.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"cannot listen on {host}, port {port}: {reason}. Name another --port, 0 for any that "
            "is free"
        ) from None


def run(app: App, listener: socket.socket) -> None:
    """Answer until a signal ends the process."""
    import uvicorn

    from lit_biqa.app.connections import Connection

    config = uvicorn.Config(
        app,
        http=Connection,
        log_level="warning",
        access_log=False,
        server_header=False,
        # The address of a client counts, not what its request says of it.
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_ENDING,
    )
    uvicorn.Server(config).run(sockets=[listener])
