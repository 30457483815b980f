"""The wire contract as data: what clients may ask, what the daemon says, how both are written."""
