"""Something to talk to: each listener answers whatever it gets. See tests/lab/firewall.py for the ports."""

from __future__ import annotations

import socketserver
import threading
from socket import AF_INET6


class TCP(socketserver.ThreadingTCPServer):
    """IPv4 too, by mapped addresses."""

    address_family = AF_INET6
    allow_reuse_address = True
    daemon_threads = True


class UDP(socketserver.UDPServer):
    """As above."""

    address_family = AF_INET6


class Greet(socketserver.StreamRequestHandler):
    """Say hello to whoever connects."""

    def handle(self) -> None:
        self.wfile.write(b"hello\n")


class Echo(socketserver.DatagramRequestHandler):
    """Send a datagram back."""

    def handle(self) -> None:
        self.wfile.write(self.rfile.read())


servers = [
    *(TCP(("::", port), Greet) for port in (8080, 8081)),
    *(UDP(("::", port), Echo) for port in (8090, 8091)),
]
threads = [threading.Thread(target=server.serve_forever) for server in servers]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
