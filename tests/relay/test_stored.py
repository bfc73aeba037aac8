"""What a row of the ledger holds comes back as it was."""

import sqlite3

from hypothesis import example, given
from hypothesis import strategies as st

from relay import stored

ANY_TEXT = st.text(st.characters(categories=None), max_size=20)  # lone surrogates too
ODD = ANY_TEXT | st.text(st.sampled_from("\\u0\0\ud800d8f"), max_size=12)


@given(ODD)
@example("\\u0000")
@example("\ud83d\ude00")
def test_every_text_is_stored_as_one_that_databases_hold_and_comes_back(text: str) -> None:
    written = stored.plain(text)
    written.encode()
    assert "\0" not in written
    assert stored.original(written) == text


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\\")))
def test_ordinary_text_is_stored_as_it_is(text: str) -> None:
    assert stored.plain(text) == text


@given(st.dictionaries(ODD, ODD, max_size=3))
def test_headers_come_back_from_ascii(headers: dict[str, str]) -> None:
    text = stored.headers_text(headers)
    assert text.isascii()
    assert "\0" not in text
    assert stored.headers_of(text) == headers


@given(st.dictionaries(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), max_size=5))
def test_a_quiet_list_comes_back(quiet: dict[int, int]) -> None:
    assert stored.quiet_of(stored.quiet_bytes(quiet)) == quiet


def test_the_largest_number_of_a_row_is_the_largest_that_a_database_holds() -> None:
    connection = sqlite3.connect(":memory:")
    assert connection.execute("SELECT ?", (stored.MAX_INT,)).fetchone() == (stored.MAX_INT,)
    try:
        connection.execute("SELECT ?", (stored.MAX_INT + 1,))
    except OverflowError:
        return
    finally:
        connection.close()
    raise AssertionError("a larger number fits")
