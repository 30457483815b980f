"""Files that hold secrets, by their names."""

import pytest

from claude_daemon.projects.sensitive import sensitive


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        ".env.local",
        "sub/.env",
        ".ENV",
        "tls/server.pem",
        "a.key",
        "id_rsa",
        "keys/id_ed25519",
        ".npmrc",
        ".netrc",
    ],
)
def test_the_names_of_the_contract_are_sensitive(path: str) -> None:
    assert sensitive(path)


@pytest.mark.parametrize("path", ["env", "dot.env", "pem", "key.txt", "identity", ".env/x.py", "keys.py"])
def test_others_are_not(path: str) -> None:
    assert not sensitive(path)
