"""Memory that a burst of work took, given back."""

import contextlib
import ctypes


def give_back() -> None:
    """Let the C library give the memory of what is gone by now back to the system. Others than glibc do it by themselves, or not at all."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
