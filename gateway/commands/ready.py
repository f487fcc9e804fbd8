"""The health check of containers: whether the gateway that these settings start is ready."""

from __future__ import annotations

import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection

from sluice.gateway.settings.sections import ServerSettings

READY_PATH = "/v2/health/ready"
TIMEOUT_S = 3.0
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def why_not_ready(server: ServerSettings) -> str | None:
    """Why the gateway at the address of the settings is not ready; `None` if it is.

    It is asked on its own machine, within `TIMEOUT_S`. Its certificate is not checked, since it is for other names.
    Where clients need a certificate, a gateway that accepts connections counts as ready.
    """
    host = _ANYWHERE.get(server.host, server.host)
    connection = HTTPConnection(host, server.port, timeout=TIMEOUT_S)
    if server.tls_cert is not None:
        connection = HTTPSConnection(host, server.port, timeout=TIMEOUT_S, context=_unverified())
    try:
        if server.tls_client_ca is not None:
            HTTPConnection(host, server.port, timeout=TIMEOUT_S).connect()
            return None
        connection.request("GET", READY_PATH)
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return f"{host}:{server.port} does not answer: {error}"
    finally:
        connection.close()
    return None if status == 200 else f"{host}:{server.port} answers {READY_PATH} with status {status}"


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
