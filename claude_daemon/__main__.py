"""`python -m claude_daemon` and the installed command."""

from claude_daemon.cli import main

if __name__ == "__main__":
    main()
