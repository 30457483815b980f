from claude_daemon.speech.queue import SpeechQueue, Utterance


def drained(queue: SpeechQueue) -> list[str]:
    texts = []
    while utterance := queue.take():
        texts.append(utterance.text)
    return texts


def test_what_came_first_is_said_first() -> None:
    queue = SpeechQueue(5)
    for text in ("one", "two", "three"):
        queue.offer(Utterance(text))

    assert drained(queue) == ["one", "two", "three"]


def test_urgent_ones_go_first_and_keep_their_order() -> None:
    queue = SpeechQueue(5)
    for text, urgent in (("a", False), ("B", True), ("c", False), ("D", True)):
        queue.offer(Utterance(text, urgent))

    assert drained(queue) == ["B", "D", "a", "c"]


def test_a_full_queue_drops_its_oldest_that_is_not_urgent_and_says_which() -> None:
    queue = SpeechQueue(2)
    queue.offer(Utterance("B", urgent=True))
    queue.offer(Utterance("a"))

    dropped = queue.offer(Utterance("c"))

    assert dropped == Utterance("a")
    assert drained(queue) == ["B", "c"]


def test_a_normal_one_does_not_push_out_urgent_ones() -> None:
    queue = SpeechQueue(1)
    queue.offer(Utterance("B", urgent=True))
    late = Utterance("c")

    assert queue.offer(late) is late
    assert drained(queue) == ["B"]


def test_among_urgent_ones_only_the_oldest_goes() -> None:
    queue = SpeechQueue(1)
    queue.offer(Utterance("B", urgent=True))

    assert queue.offer(Utterance("D", urgent=True)) == Utterance("B", urgent=True)
    assert len(queue) == 1


def test_muted_it_forgets_what_waits_and_takes_nothing_until_unmuted() -> None:
    queue = SpeechQueue(5)
    queue.offer(Utterance("a"))

    assert queue.mute() == 1
    assert queue.offer(Utterance("b")) == Utterance("b")
    queue.unmute()
    queue.offer(Utterance("c"))

    assert drained(queue) == ["c"]
