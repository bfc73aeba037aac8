"""The ledgers that relays can be run on; each is one small class, named in LEDGERS as `--ledger` names it."""

from pathlib import Path
from typing import ClassVar, Final, Protocol

from tests.postgres_server import PostgresServer


class Kind(Protocol):
    """How a soak gets a ledger. Everything may block."""

    most_relays: ClassVar[int]

    @property
    def server(self) -> PostgresServer | None:
        """What a fault may kill."""

    def __init__(self, directory: Path) -> None: ...

    def start(self) -> str:
        """Make it ready; its relay.ledger_url."""

    def stop(self) -> None:
        """End what was started."""


class Sqlite:
    """A file beside the relay, and so one relay."""

    most_relays: ClassVar[int] = 1
    server: PostgresServer | None = None

    def __init__(self, directory: Path) -> None:
        self._path = directory / "ledger.db"

    def start(self) -> str:
        return f"sqlite:///{self._path}"

    def stop(self) -> None:
        """Nothing runs."""


class Postgresql:
    """One PostgreSQL on a socket of its own, and as many relays as one likes."""

    most_relays: ClassVar[int] = 9

    def __init__(self, directory: Path) -> None:
        self.server: PostgresServer | None = None

    def start(self) -> str:
        self.server = PostgresServer()
        return self.server.url(self.server.create())

    def stop(self) -> None:
        if self.server is not None:
            self.server.close()


LEDGERS: Final[dict[str, type[Kind]]] = {"sqlite": Sqlite, "postgresql": Postgresql}
