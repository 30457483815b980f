import json
from collections.abc import Iterator
from typing import Any

import pytest

from claude_daemon.protocol.model import FACTS, NOTICES, REQUESTS
from claude_daemon.protocol.schema import asyncapi
from claude_daemon.protocol.version import SERVER_VERSION


@pytest.fixture(scope="module")
def document() -> Any:
    """As a client reads it."""
    return json.loads(json.dumps(asyncapi()))


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def at(document: Any, reference: str) -> Any:
    assert reference.startswith("#/")
    for step in reference[2:].split("/"):
        document = document[step]
    return document


def test_it_is_an_asyncapi_document_of_this_version(document: Any) -> None:
    assert document["asyncapi"] == "3.0.0"
    assert document["info"]["version"] == SERVER_VERSION
    assert {each["action"] for each in document["operations"].values()} == {"send", "receive"}


def test_every_reference_leads_somewhere(document: Any) -> None:
    found = list(references(document))

    assert len(found) > 100
    for reference in found:
        at(document, reference)


def test_every_request_is_described_with_its_payload_its_scope_and_its_ack(document: Any) -> None:
    sent = document["channels"]["toDaemon"]["messages"]

    assert sorted(sent) == sorted(REQUESTS)
    for name, message in sent.items():
        properties = at(document, message["payload"]["$ref"])["properties"]
        assert sorted(properties) == sorted(REQUESTS[name].kind.__struct_encode_fields__), name
        assert message["x-scope"] == REQUESTS[name].scope
        reply = at(document, message["x-ack"]["$ref"])["properties"]
        assert sorted(reply) == sorted(REQUESTS[name].reply.__struct_encode_fields__), name
        assert message["summary"], name


def test_every_fact_and_every_notice_is_described(document: Any) -> None:
    received = document["channels"]["fromDaemon"]["messages"]

    assert sorted(received) == sorted({*FACTS, *NOTICES, "system_status"})
    for name, kind in (FACTS | NOTICES).items():
        properties = at(document, received[name]["payload"]["$ref"])["properties"]
        assert sorted(properties) == sorted(kind.__struct_encode_fields__), name
        assert received[name].get("x-stored", False) == (name in FACTS)


def test_a_request_and_a_fact_of_one_name_are_told_apart(document: Any) -> None:
    sent = document["channels"]["toDaemon"]["messages"]["chat_message"]
    received = document["channels"]["fromDaemon"]["messages"]["chat_message"]

    assert "clientId" in at(document, sent["payload"]["$ref"])["properties"]
    assert "timestamp" in at(document, received["payload"]["$ref"])["properties"]


def test_limits_and_what_is_required_stand_in_the_schemas(document: Any) -> None:
    message = at(document, document["channels"]["toDaemon"]["messages"]["chat_message"]["payload"]["$ref"])

    assert message["properties"]["content"] == {"type": "string", "minLength": 1, "maxLength": 10_000}
    assert message["required"] == ["content", "sessionId"]


def test_requests_that_take_a_client_id_say_so(document: Any) -> None:
    sent = document["channels"]["toDaemon"]["messages"]

    assert {name for name, message in sent.items() if message["x-clientId"]} == {
        name for name, spec in REQUESTS.items() if "clientId" in spec.kind.__struct_encode_fields__
    }
