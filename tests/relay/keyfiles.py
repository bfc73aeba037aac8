"""A relay's key files in a directory, and what is configured of them."""

from dataclasses import dataclass
from pathlib import Path

from shared import config, keygen


@dataclass(frozen=True)
class KeyFiles:
    """`signing` is the current key's algorithm."""

    directory: Path
    signing: str = "hmac-sha256"
    encrypts: bool = False

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.keyring.mkdir()
        keygen.create(self.key, keygen.secret_text(self.signing))
        keygen.create(self.secret, keygen.secret_text("aes-256-gcm"))

    @property
    def key(self) -> Path:
        return self.directory / "signing.key"

    @property
    def secret(self) -> Path:
        return self.directory / "encryption.key"

    @property
    def keyring(self) -> Path:
        return self.directory / "keyring"

    @property
    def environ(self) -> dict[str, str]:
        return {
            "WAZUH_JETSTREAM__SECURITY__SIGNING_KEY_PATH": str(self.key),
            "WAZUH_JETSTREAM__SECURITY__KEYRING_PATH": str(self.keyring),
            "WAZUH_JETSTREAM__SECURITY__ENCRYPTION_KEY_PATH": str(self.secret),
            "WAZUH_JETSTREAM__SECURITY__ENCRYPT_MESSAGES": str(self.encrypts).lower(),
        }

    @property
    def settings(self) -> config.Config:
        return config.load(None, self.environ)

    def texts(self) -> set[str]:
        """Every secret there is, as its file says it: what must never be printed."""
        return {path.read_text().strip() for path in self.directory.rglob("*.key")}
