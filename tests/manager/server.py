"""queue/db/wdb: a stream socket with frames of a little-endian uint32 and that many bytes, served by eight worker threads.

As fragile as the real one (main.c:411-417): a length over 65536 ends the worker that read it, and after eight of them
nobody answers any more; a client that stops in the middle of a frame keeps a worker busy.
"""

import select
import socket
import struct
import threading
from pathlib import Path
from typing import Final

from tests.manager.commands import MAX_ANSWER, Commands

WORKERS: Final = 8
_HEADER: Final = struct.Struct("<I")
_ONCE: Final = select.EPOLLIN | select.EPOLLONESHOT


class Server:
    """Serves from construction on, in daemon threads."""

    def __init__(self, path: Path, commands: Commands) -> None:
        self._commands = commands
        self._peers: dict[int, socket.socket] = {}
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        path.chmod(0o660)
        self._listener.listen(128)
        self._epoll = select.epoll()
        self._epoll.register(self._listener, _ONCE)
        for _ in range(WORKERS):
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        healthy = True
        while healthy:
            for number, _ in self._epoll.poll(maxevents=1):
                if number == self._listener.fileno():
                    self._welcome()
                else:
                    healthy = self._serve(self._peers[number])

    def _welcome(self) -> None:
        peer, _ = self._listener.accept()
        self._peers[peer.fileno()] = peer
        self._epoll.register(peer, _ONCE)
        self._epoll.modify(self._listener, _ONCE)

    def _serve(self, peer: socket.socket) -> bool:
        """One request and its answer. False where the request was the kind that ends a worker."""
        try:
            length = _HEADER.unpack(_read(peer, _HEADER.size))[0]
            if length > MAX_ANSWER:
                self._drop(peer)
                return False
            answer = self._commands.answer(_read(peer, length))
            peer.sendall(_HEADER.pack(len(answer)) + answer)
        except OSError:  # the client went away
            self._drop(peer)
        else:
            self._epoll.modify(peer, _ONCE)
        return True

    def _drop(self, peer: socket.socket) -> None:
        self._epoll.unregister(peer)
        del self._peers[peer.fileno()]
        peer.close()


def _read(peer: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = peer.recv(size - len(found))
        if not part:
            raise ConnectionResetError("closed")
        found += part
    return found
