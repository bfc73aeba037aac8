"""An operator, two accounts and users as JWTs, signed with NKeys as nats-server's operator mode wants them (ADR-14)."""

import base64
import json
import os
from dataclasses import dataclass

import nkeys

PREFIXES = {"operator": nkeys.PREFIX_BYTE_OPERATOR, "account": nkeys.PREFIX_BYTE_ACCOUNT, "user": nkeys.PREFIX_BYTE_USER}
FREE = -1


def pair(kind: str) -> nkeys.KeyPair:
    return nkeys.from_seed(bytearray(nkeys.encode_seed(os.urandom(32), PREFIXES[kind])))


def public(one: nkeys.KeyPair) -> str:
    found: bytes = one.public_key
    return found.decode()


def token(issuer: nkeys.KeyPair, subject: str, kind: str, nats: dict[str, object]) -> str:
    claims = {"jti": "x", "iat": 1, "iss": public(issuer), "name": kind, "sub": subject, "nats": {**nats, "type": kind, "version": 2}}
    parts = [_packed({"typ": "JWT", "alg": "ed25519-nkey"}), _packed(claims)]
    signature = issuer.sign(".".join(parts).encode())
    return ".".join([*parts, _text(signature)])


def _packed(value: object) -> str:
    return _text(json.dumps(value, separators=(",", ":")).encode())


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass
class Operator:
    """An operator with one account that has JetStream, and the server's own."""

    def __post_init__(self) -> None:
        self.key, self.account, self.system = pair("operator"), pair("account"), pair("account")

    def config(self) -> str:
        """What stands in the server's configuration."""
        limits = {
            "subs": FREE,
            "data": FREE,
            "payload": FREE,
            "conn": FREE,
            "leaf": FREE,
            "imports": FREE,
            "exports": FREE,
            "wildcards": True,
        }
        stores = {"mem_storage": FREE, "disk_storage": FREE, "streams": FREE, "consumer": FREE}
        operator = token(self.key, public(self.key), "operator", {"system_account": public(self.system)})
        accounts = {
            public(self.account): token(self.key, public(self.account), "account", {"limits": limits | stores}),
            public(self.system): token(self.key, public(self.system), "account", {"limits": limits}),
        }
        preload = "\n".join(f'{name}: "{text}"' for name, text in accounts.items())
        return f'operator: "{operator}"\nsystem_account: {public(self.system)}\nresolver: MEMORY\nresolver_preload {{\n{preload}\n}}'

    def creds(self) -> str:
        """A .creds file of a new user."""
        user = pair("user")
        permissions = {"pub": {}, "sub": {}, "subs": FREE, "data": FREE, "payload": FREE}
        text = token(self.account, public(user), "user", permissions)
        seed = bytes(user.seed).decode()
        return (
            f"-----BEGIN NATS USER JWT-----\n{text}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
