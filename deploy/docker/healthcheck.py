"""An image's health check: exit code 0 where /healthz answers 200. Only a socket is imported: it runs every few seconds."""

import os
import socket
import sys

port = int(os.environ.get("WAZUH_JETSTREAM__MONITORING__METRICS_PORT") or 9090)
try:
    with socket.create_connection(("127.0.0.1", port), timeout=3) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        answer = connection.recv(64)
except OSError as error:
    sys.exit(f"127.0.0.1:{port} does not answer: {error}")
if b" 200 " not in answer.split(b"\r\n", 1)[0]:
    sys.exit(f"/healthz answered {answer!r}")
