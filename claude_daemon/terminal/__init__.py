"""Commands in a sandbox: a bounded pool, exact ends, output that waits for its reader."""
