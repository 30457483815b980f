"""Project folders: watched, read and written back to.  The snapshot is the truth, events are a hint."""
