"""Who may connect, and where secrets are kept."""
