"""`wazuh-relay keys rotate`: one step of a key's change at a time, so that nobody ever meets a message he cannot verify.

    next      a new key is made and accepted; every reader is given it           keyring/_relay/next.key
    switch    it signs; the one before signs headers beside it for a while        keyring/_relay/previous.key
    retire    the one before signs no more, and still verifies what it signed     keyring/_relay/retired-KID.pub or .key

Rules
 * What is to be done follows from the files alone. A step that was broken off is finished by the next one; at no moment is a
   key gone that something was signed with, nor a file half written.
 * A step waits until the one before is MIN_AGE_S old: by then every service has read it.
 * Of an Ed25519 key that is retired the private half is destroyed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from shared import config, ed25519, keygen, keyring, sealing
from shared.errors import Stop

from . import trust
from .encryption import ALGORITHM, Secret

MIN_AGE_S: Final = 60.0  # many times keywatch.LOOK_S

Own = Literal["signing", "encryption"]
Step = Literal["next", "switch", "retire"]


class TooSoon(Stop):
    """The step before is not old enough."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


@dataclass(frozen=True, slots=True)
class Done:
    """What was done: the key that it was done to."""

    use: Own
    step: Step
    kid: str
    then: str


THEN: Final[dict[Step, str]] = {
    "next": "copy the keyring to every other relay, give every reader what `wazuh-relay keys export` writes, then rotate again: the key"
    " will sign",
    "switch": "do the same on every other relay; once all readers know the key, rotate again: the one before will sign no more",
    "retire": "nothing; keep the retired key as long as anything that it signed is read",
}
THEN_ENCRYPTION: Final[dict[Step, str]] = {
    "next": "copy the keyring to every other relay and give every reader the key, then rotate again: it will encrypt",
    "switch": "do the same on every other relay; then rotate again",
    "retire": "nothing; keep the retired key as long as anything that it encrypted is read",
}


@dataclass(frozen=True, slots=True)
class _Files:
    current: Path
    next: Path
    previous: Path


def rotate(settings: config.SecurityConfig, use: Own, algorithm: str | None, now_s: float, *, at_once: bool = False) -> Done:
    """Do the step that is due. `algorithm`: of a new signing key, else as the current one; `now_s`: Unix time.

    Raises TooSoon, ConfigError.
    """
    files = _files(settings, use)
    step = _due(files, use)
    if not at_once and step != "next":
        _check_age(files.next if step == "switch" else files.previous, now_s)
    kid = _STEPS[step](files, use, algorithm)
    return Done(use, step, kid, (THEN if use == "signing" else THEN_ENCRYPTION)[step])


def _files(settings: config.SecurityConfig, use: Own) -> _Files:
    named = settings.signing_key_path if use == "signing" else settings.encryption_key_path
    current = config.require(named, f"security.{use}_key_path")
    directory = config.require(settings.keyring_path, "security.keyring_path") / trust.PLACES[use]
    return _Files(current, directory / trust.NEXT, directory / trust.PREVIOUS)


def _due(files: _Files, use: Own) -> Step:
    current = _kid(files.current, use)
    if files.next.exists() and _kid(files.next, use) == current:  # a switch that was broken off at its end
        files.next.unlink()
        _renew_public(files.current, use)
    if files.next.exists():
        return "switch"  # also one that was broken off before its end: then previous.key is the current one still
    return "retire" if files.previous.exists() else "next"


def _check_age(path: Path, now_s: float) -> None:
    left = MIN_AGE_S - (now_s - path.stat().st_mtime)
    if left > 0:
        raise TooSoon(f"the step before was just done, and not everybody may have read it; try again in {left:.0f} s, or use --now")


def _make_next(files: _Files, use: Own, algorithm: str | None) -> str:
    keyring.read_guarded(files.current)
    files.next.parent.mkdir(mode=0o700, exist_ok=True)
    keygen.own_like(files.next.parent, files.current)
    wanted = algorithm or (ALGORITHM if use == "encryption" else keyring.read_key(files.current).algorithm)
    keygen.put(files.next, keygen.secret_text(wanted), files.current)
    return _kid(files.next, use)


def _switch(files: _Files, use: Own, _: str | None) -> str:
    if files.previous.exists() and _kid(files.previous, use) != _kid(files.current, use):
        _retire(files, use, None)
    keygen.put(files.previous, files.current.read_bytes(), files.current)
    keygen.put(files.current, files.next.read_bytes(), files.current)
    files.next.unlink()
    _renew_public(files.current, use)
    return _kid(files.current, use)


def _renew_public(current: Path, use: Own) -> None:
    """`keys generate` may have put the public half beside it."""
    beside = current.with_suffix(".pub")
    if use != "signing" or beside == current or not beside.exists():
        return
    key = keyring.read_key(current)
    if isinstance(key, ed25519.PrivateKey):
        keygen.put(beside, key.public.pem(), current, 0o644)
    else:
        beside.unlink()


def _retire(files: _Files, use: Own, _: str | None) -> str:
    key, text = _read(files.previous, use), files.previous.read_bytes()
    kept = files.previous.with_name(f"{trust.RETIRED}{key.kid}.key")
    if isinstance(key, ed25519.PrivateKey):
        kept, text = kept.with_suffix(".pub"), key.public.pem()
    keygen.put(kept, text, files.current)
    files.previous.unlink()
    return key.kid


def _read(path: Path, use: Own) -> sealing.VerifyingKey | Secret:
    return Secret(keyring.read_secret(path)) if use == "encryption" else keyring.read_key(path)


def _kid(path: Path, use: Own) -> str:
    return _read(path, use).kid


_STEPS: Final = {"next": _make_next, "switch": _switch, "retire": _retire}
