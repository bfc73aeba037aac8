"""`wazuh-relay keys`: makes, lists, changes and hands out keys. No secret is ever printed; where one is handed out, into a file.

What a change of keys looks like from the first to the last step: docs/keys.md.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

from shared import cli, config, keygen, keyring, sealing
from shared.clock import Clock

from . import consumerkeys, encryption, rotate, trust
from .trust import Held

ALGORITHMS: Final = (*keygen.SIGNING, encryption.ALGORITHM)
HEADERS: Final = ("FOR", "STATE", "ALGORITHM", "KEY ID", "SINCE", "FILE")


def generate(settings: config.Config, path: Path | None, algorithm: str, out: TextIO, *, as_json: bool) -> int:
    """Make a key file, by default the one that the configuration names; 0. Raises NotMade, ConfigError."""
    security = settings.security
    if algorithm == encryption.ALGORITHM:
        target = path or config.require(security.encryption_key_path, "security.encryption_key_path")
        keygen.create(target, keygen.secret_text(algorithm))
        made = keygen.Made(target, algorithm, encryption.Secret(keyring.read_secret(target)).kid)
    else:
        made = keygen.signing_key(path or config.require(security.signing_key_path, "security.signing_key_path"), algorithm)
    keygen.show(made, out, as_json=as_json)
    return 0


def show_list(settings: config.Config, out: TextIO, *, as_json: bool) -> int:
    """Print every key by its id; 0. Raises ConfigError."""
    told = [_facts(one) for one in _held(settings.security)]
    if as_json:
        cli.print_json(told, out)
    else:
        cli.print_table(HEADERS, [list(facts.values()) for facts in told], out)
    return 0


def change(
    settings: config.Config, use: rotate.Own, algorithm: str | None, clock: Clock, out: TextIO, *, at_once: bool, as_json: bool
) -> int:
    """Do the next step of a key's change; 0. Raises TooSoon, ConfigError."""
    done = rotate.rotate(settings.security, use, algorithm, clock.now_ms() / 1000, at_once=at_once)
    if as_json:
        cli.print_json({"use": done.use, "step": done.step, "kid": done.kid, "then": done.then}, out)
    else:
        out.write(f"{done.step}: {done.use} key {done.kid}\nto do: {done.then}\n")
    return 0


def export(settings: config.Config, path: Path | None, out: TextIO, notes: TextIO, *, with_secrets: bool) -> int:
    """Write the file that a consumer holds, to `path` or `out`; 0. Secrets go into a file alone. Raises ConfigError."""
    held = [one for one in _held(settings.security) if one.use != "node"]
    text = json.dumps(consumerkeys.document(held, with_secrets=with_secrets), indent=1) + "\n"
    if path is None:
        out.write(text)
    else:
        keygen.put(path, text.encode(), mode=0o600 if with_secrets else 0o644)
        notes.write(f"{path}: {len(held)} keys\n")
    left_out = [one.key.kid for one in held if not with_secrets and isinstance(one.key, sealing.Key | encryption.Secret)]
    if left_out:
        notes.write(f"without the secrets of {', '.join(left_out)}; a consumer that is to use these keys needs --with-secrets\n")
    return 0


def _held(security: config.SecurityConfig) -> Iterator[Held]:
    yield from trust.own(security, "signing")
    yield from trust.own(security, "encryption")
    yield from trust.of_nodes(security)


def _facts(one: Held) -> dict[str, Any]:
    since = datetime.fromtimestamp(one.path.stat().st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "for": f"node {one.node}" if one.use == "node" else one.use,
        "state": one.state,
        "algorithm": one.key.algorithm,
        "kid": one.key.kid,
        "since": since,
        "path": str(one.path),
    }
