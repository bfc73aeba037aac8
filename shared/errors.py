"""Every error that leaves a module, in families named by what the caller does next.

    WazuhJetstreamError
     |-- Transient          try again later, with backoff
     |    |-- SourceUnavailable    Wazuh's database, socket or file did not answer
     |    +-- Unreachable          NATS or the ledger did not answer
     |-- Quarantine         this one message is refused and kept aside; the next goes on
     +-- Stop               the program ends with `exit_code` and this sentence
          +-- ConfigError          exit code 78 (EX_CONFIG of sysexits.h)

Each message is one sentence: what is wrong, where, and what to do.
"""


class WazuhJetstreamError(Exception):
    """The root of the tree."""


class Transient(WazuhJetstreamError):
    """What can pass by itself."""


class SourceUnavailable(Transient):
    """Wazuh's database, its socket or client.keys could not be read. `state` is one of `shared.models.SourceState`."""

    def __init__(self, state: str, sentence: str) -> None:
        self.state = state
        super().__init__(sentence)


class Unreachable(Transient):
    """NATS, a stream or the ledger did not answer."""


class Quarantine(WazuhJetstreamError):
    """An input that cannot be accepted. `reason` is a stable word for counting (see `shared.catalogue`)."""

    def __init__(self, reason: str, sentence: str) -> None:
        self.reason = reason
        super().__init__(sentence)


class Stop(WazuhJetstreamError):
    """The program cannot go on; `exit_code` follows sysexits.h."""

    exit_code = 70  # EX_SOFTWARE


class ConfigError(Stop):
    """A configuration, a key file or a ledger that this program cannot work with."""

    exit_code = 78  # EX_CONFIG
