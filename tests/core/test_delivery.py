import json

from claude_daemon.core.delivery import Delivery, Stored
from claude_daemon.protocol.model import DeviceId, EventId, Stream

SENDER, OTHER = DeviceId("sender"), DeviceId("other")
STORED = Stored(Stream("session:s"), 7, EventId("e"), "chat_message", b'{"content":"x"}', SENDER, "c1")


def test_everybody_reads_the_id_and_the_number() -> None:
    delivery = Delivery("chat_message", STORED.body, STORED)

    assert json.loads(delivery.payload()) == {"id": "e", "seq": 7, "content": "x"}
    assert delivery.stream == "session:s"


def test_the_sending_device_alone_reads_its_client_id() -> None:
    delivery = Delivery("chat_message", STORED.body, STORED)

    assert delivery.carries_client_id(SENDER) and not delivery.carries_client_id(OTHER)
    assert json.loads(delivery.payload(with_client_id=True))["clientId"] == "c1"
    assert "clientId" not in json.loads(delivery.payload())


def test_a_replayed_event_says_so() -> None:
    assert (
        json.loads(Delivery("chat_message", STORED.body, STORED, replayed=True).payload())["replayed"] is True
    )


def test_an_event_without_fields_is_still_json() -> None:
    stored = Stored(Stream("user:u"), 1, EventId("e"), "nothing", b"{}", None)

    assert json.loads(Delivery("nothing", b"{}", stored).payload()) == {"id": "e", "seq": 1}


def test_what_is_not_stored_goes_out_as_it_is() -> None:
    delivery = Delivery("typing", b'{"isTyping":true}')

    assert delivery.payload() == b'{"isTyping":true}'
    assert not delivery.carries_client_id(SENDER)
    assert delivery.stream is None
