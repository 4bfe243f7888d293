"""Messages in hand: acknowledged in order, on the connection that they came by, and not taken twice."""

from hypothesis import given
from hypothesis import strategies as st

from services.producer.mqtt.shelf import Message, Shelf, digest_of


def message(number: int, payload: bytes = b"1", topic: str = "a") -> Message:
    return Message(number, digest_of(topic, payload), len(payload))


@given(st.permutations(range(1, 8)))
def test_acknowledgements_are_in_the_order_of_arrival(order: list[int]) -> None:
    """Whatever is in the stream first; and each message has one."""
    shelf = Shelf()
    messages = {number: shelf.put(message(number), is_repeated=False) for number in range(1, 8)}
    heard: list[int] = []
    for number in order:
        messages[number].is_in_stream = True
        due = shelf.take_due()
        assert all(messages[one].is_in_stream for one in due)
        heard += due
    assert heard == list(range(1, 8))
    assert len(shelf) == 0


def test_what_a_broken_connection_left_is_acknowledged_when_it_comes_again() -> None:
    """On the new connection, in its order, and it is the one that is in hand."""
    shelf = Shelf()
    first, second = (shelf.put(message(number), is_repeated=False) for number in (1, 2))
    shelf.interrupt()
    first.is_in_stream = True
    assert shelf.take_due() == [], "there is no connection"
    assert shelf.put(message(2), is_repeated=True) is second
    assert shelf.put(message(1), is_repeated=True) is first
    assert shelf.take_due() == []
    second.is_in_stream = True
    assert shelf.take_due() == [2, 1]


def test_another_message_of_the_same_number_is_another_message() -> None:
    """By its content, since it is none that was sent before, or since the broker forgot the session."""
    for again, is_repeated, is_known in (
        (message(1, b"2"), True, True),
        (message(1, topic="b"), True, True),
        (message(1), False, True),
        (message(1), True, False),
    ):
        shelf = Shelf()
        shelf.put(message(1), is_repeated=False)
        shelf.interrupt()
        if not is_known:
            shelf.forget()
        assert shelf.put(again, is_repeated=is_repeated) is again


def test_an_acknowledged_message_is_not_held_on() -> None:
    """Its number may be that of the next one, and to pass over a reading would be a loss."""
    shelf = Shelf()
    shelf.put(message(1), is_repeated=False).is_in_stream = True
    assert shelf.take_due() == [1]
    shelf.interrupt()
    again = message(1)
    assert shelf.put(again, is_repeated=True) is again
