"""Checks as data: what is looked at, how it is, the evidence, and what to do."""
