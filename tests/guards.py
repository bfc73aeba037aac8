"""Guards for tests: quick to try again, and what they show can be looked at."""

import logging

from shared import health
from shared.backoff import Backoff
from shared.catalogue import Service
from shared.clock import Clock, SystemClock
from shared.guard import Guard, Signs, Words
from shared.telemetry import Telemetry


def guard(
    words: Words,
    service: Service = "relay",
    readiness: health.Readiness | None = None,
    metrics: Telemetry | None = None,
    clock: Clock | None = None,
    backoff: Backoff | None = None,
) -> Guard:
    signs = Signs(readiness or health.Readiness(), metrics or Telemetry(service), logging.getLogger("test"))
    return Guard(words, signs, clock or SystemClock(), backoff or Backoff(first=0.01, highest=0.1, jitter=lambda: 1.0))
