"""Text said aloud on this machine, one child process a piece, so that no engine can harm the daemon."""
