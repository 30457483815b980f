"""Settings of a daemon that is measured: its work, not its refusals."""

UNLIMITED = {"RATE_LIMIT_POINTS": "100000000"}
PROJECT = "bench"
