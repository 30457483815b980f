"""One road in (dispatch), one road out (hub and log)."""
