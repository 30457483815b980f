"""claude-daemon: what Claude Code does on your computer, on your loudspeaker and on your own devices."""
