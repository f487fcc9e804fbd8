"""What uvicorn is told, the same for every HTTP server of the gateway."""

from __future__ import annotations

import ssl
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from sluice.gateway.settings.sections import ServerSettings
from sluice.inference.errors import StartError


def uvicorn_config(app: ASGIApp, protocol: type, settings: ServerSettings) -> uvicorn.Config:
    """The configuration of a server that gives each connection a `protocol`. It is loaded: TLS files have been read.

    Raises `StartError` if the TLS files cannot be used.
    """
    config = uvicorn.Config(
        app,
        http=protocol,
        lifespan="off",  # the gateway is entered before its servers are made
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        headers=[("server", "sluice")],
        timeout_keep_alive=settings.keep_alive_timeout_s,  # type: ignore[arg-type]  # any number of seconds will do
        timeout_graceful_shutdown=settings.shutdown_timeout_s,  # type: ignore[arg-type]
        **_tls_options(settings),
    )
    try:
        config.load()
    except OSError as error:
        files = [
            str(file) for file in (settings.tls_cert, settings.tls_key, settings.tls_client_ca) if file is not None
        ]
        raise StartError(f"the TLS files {', '.join(files)} cannot be used together: {error}") from error
    return config


def _tls_options(settings: ServerSettings) -> dict[str, Any]:
    return {
        "ssl_certfile": settings.tls_cert,
        "ssl_keyfile": settings.tls_key,
        # Nobody is there to type a passphrase: with a wrong one, an encrypted key is an error and not a question.
        "ssl_keyfile_password": "none",
        "ssl_ca_certs": None if settings.tls_client_ca is None else str(settings.tls_client_ca),
        "ssl_cert_reqs": ssl.CERT_NONE if settings.tls_client_ca is None else ssl.CERT_REQUIRED,
    }
