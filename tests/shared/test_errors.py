"""Errors tell the caller what to do next."""

import pytest

from shared import errors


def test_families_and_exit_codes() -> None:
    assert issubclass(errors.SourceUnavailable, errors.Transient)
    assert issubclass(errors.Unreachable, errors.Transient)
    assert (errors.Stop.exit_code, errors.ConfigError.exit_code) == (70, 78)
    for family in (errors.Transient, errors.Quarantine, errors.Stop):
        assert issubclass(family, errors.WazuhJetstreamError)
        others = {errors.Transient, errors.Quarantine, errors.Stop} - {family}
        assert not any(issubclass(family, other) for other in others)


def test_an_error_is_its_sentence_and_its_word() -> None:
    with pytest.raises(errors.SourceUnavailable, match="a sentence") as lost:
        raise errors.SourceUnavailable("locked", "a sentence")
    with pytest.raises(errors.Quarantine, match="another") as refused:
        raise errors.Quarantine("malformed", "another")
    assert (lost.value.state, refused.value.reason) == ("locked", "malformed")
