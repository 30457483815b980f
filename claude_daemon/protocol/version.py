"""Versions a client can see.  The protocol's number rises only when something old changes meaning."""

SERVER_VERSION = "0.1.0"
PROTOCOL_VERSION = 1
