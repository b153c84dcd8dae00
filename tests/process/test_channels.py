"""Pipes between processes: what arrives, what is refused, and what a death looks like from the other side."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import struct
import tracemalloc
from multiprocessing.context import SpawnContext

import pytest

from kps.core.address import TcpAddress
from kps.core.tickets import PrinterKey
from kps.printer.config import DeviceConfig
from kps.process.channels import FRAME_LIMIT, OUTBOX_LIMIT, Channel, FrameTooBig, PeerGone, PeerStuck, drain
from tests.conftest import eventually
from tests.process import children
from tests.process.conftest import Start

PATIENCE_S = 20.0


@pytest.fixture
def pair(context: SpawnContext) -> tuple[Channel, Channel]:
    one, other = context.Pipe()
    return Channel(one), Channel(other)


def test_frames_arrive_whole_and_in_order(start: Start) -> None:
    channel, process = start(children.echo)
    assert channel.receive(PATIENCE_S) == ("up", process.pid)
    for number in range(50):
        channel.send(("ticket", number, 2**63 - 1, PrinterKey(":127.0.0.1:9100")))
    for number in range(50):
        assert channel.receive(PATIENCE_S) == ("echo", "ticket", number, 2**63 - 1, ":127.0.0.1:9100")


def test_nothing_in_time_is_none_and_no_death(pair: tuple[Channel, Channel]) -> None:
    assert pair[0].receive(0.0) is None
    pair[1].send(("late",))
    assert pair[0].receive(PATIENCE_S) == ("late",)
    for end in pair:
        end.close()


def test_a_frame_of_more_than_4000_bytes_is_refused_and_nothing_of_it_is_sent(pair: tuple[Channel, Channel]) -> None:
    with pytest.raises(FrameTooBig, match="rows: "):
        pair[0].send(("rows", "x" * FRAME_LIMIT))
    assert pair[1].receive(0.0) is None
    pair[0].send(("rows", "x" * (FRAME_LIMIT - 100)))
    message = pair[1].receive(PATIENCE_S)
    assert message is not None
    assert len(message[1]) == FRAME_LIMIT - 100
    assert FRAME_LIMIT == 4000
    for end in pair:
        end.close()


@pytest.mark.parametrize("claimed", [FRAME_LIMIT + 1, 2**31 - 1])
def test_a_frame_that_claims_more_than_a_frame_has_ends_the_channel_and_nothing_is_reserved_for_it(
    pair: tuple[Channel, Channel], claimed: int
) -> None:
    tracemalloc.start()
    os.write(pair[1].fileno(), struct.pack("!i", claimed) + pickle.dumps(("ticket", "x" * FRAME_LIMIT)))
    pair[1].close()
    with pytest.raises(PeerGone):
        pair[0].receive(PATIENCE_S)
    assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    tracemalloc.stop()
    pair[0].close()


def test_a_device_with_many_rows_and_long_texts_fits_into_a_frame(pair: tuple[Channel, Channel]) -> None:
    key = PrinterKey(f"{'s' * 40}:{'h' * 255}:9100")
    config = DeviceConfig(key, "n" * 80, TcpAddress("h" * 255, 9100), 5.0, rows=tuple(range(10**12, 10**12 + 100)))
    pair[0].send(("device", config))
    assert pair[1].receive(PATIENCE_S) == ("device", config)
    for end in pair:
        end.close()


def test_a_killed_peer_is_gone_for_the_sender_and_for_the_receiver(start: Start) -> None:
    channel, process = start(children.echo)
    assert channel.receive(PATIENCE_S) == ("up", process.pid)
    process.kill()
    process.join(PATIENCE_S)
    with pytest.raises(PeerGone):
        channel.send(("ticket", 1))
    with pytest.raises(PeerGone):
        channel.receive(PATIENCE_S)


def test_a_peer_that_died_with_unread_frames_is_gone_like_any_other(start: Start) -> None:
    channel, process = start(children.read_nothing)
    assert channel.receive(PATIENCE_S) == ("up", process.pid)
    channel.send(("never read",))
    process.kill()
    process.join(PATIENCE_S)
    with pytest.raises(PeerGone):
        channel.receive(PATIENCE_S)


def test_the_last_words_of_a_killed_process_are_read_before_its_death(start: Start) -> None:
    channel, process = start(children.speak_and_die, 20)
    process.join(PATIENCE_S)
    assert process.exitcode == -signal.SIGKILL
    words: list[tuple[object, ...]] = []
    drain(channel, words.append, limit_s=PATIENCE_S)
    assert words == [("word", number) for number in range(20)]
    with pytest.raises(PeerGone):
        channel.receive(0.0)


def test_a_peer_that_reads_nothing_costs_memory_up_to_a_bound_and_never_time(start: Start) -> None:
    channel, process = start(children.read_nothing)
    assert channel.receive(PATIENCE_S) == ("up", process.pid)
    assert channel.unread_since is None
    with pytest.raises(PeerStuck):
        for number in range(OUTBOX_LIMIT * 2):
            channel.send(("ticket", number, "x" * 3000))
    assert channel.waiting == OUTBOX_LIMIT
    assert channel.unread_since is not None


def test_a_stopped_peer_hears_everything_whole_and_in_order_when_it_goes_on(
    start: Start, context: SpawnContext
) -> None:
    channel, process = start(children.receive_mailboxes)
    assert channel.receive(PATIENCE_S) == ("up", process.pid)
    assert process.pid is not None
    channel.send(("fds",))
    before = channel.receive(PATIENCE_S)
    ours_before = len(os.listdir("/proc/self/fd"))
    os.kill(process.pid, signal.SIGSTOP)
    mailboxes = []
    generation = 0
    while channel.waiting < 30:
        # Each length of a frame meets the end of the room in another place.
        channel.send(("noise", "x" * (generation * 37 % 3900)))
        ours, theirs = context.Pipe()
        channel.send_end(("mailbox", generation), theirs)
        mailboxes.append(Channel(ours))
        generation += 1
    since = channel.unread_since
    assert since is not None
    os.kill(process.pid, signal.SIGCONT)
    eventually(lambda: channel.flush() or not channel.waiting, what="the outbox to be empty")
    assert channel.unread_since is None
    for number, mailbox in enumerate(mailboxes):
        assert mailbox.receive(PATIENCE_S) == ("hello", number)
        mailbox.close()
    channel.send(("drop",))
    channel.send(("fds",))
    assert channel.receive(PATIENCE_S) == before
    assert len(os.listdir("/proc/self/fd")) == ours_before, "what was handed over is not ours any more"


def test_a_newer_message_of_a_topic_replaces_one_that_still_waits(start: Start) -> None:
    channel, process = start(children.echo)
    assert channel.receive(PATIENCE_S) == ("up", process.pid)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    while not channel.waiting:
        channel.send(("fill", "x" * 3000))
    for version in range(10_000):
        channel.send(("rows", version), topic="rows")
        channel.send(("lease", version % 3, version), topic=("lease", version % 3))
    assert channel.waiting == 1 + 1 + 3
    os.kill(process.pid, signal.SIGCONT)
    eventually(lambda: channel.flush() or not channel.waiting, what="the outbox to be empty")
    heard = []
    while len(heard) < 4:
        message = channel.receive(PATIENCE_S)
        assert message is not None
        if message[1] != "fill":
            heard.append(message[1:])
    assert heard == [("lease", 1, 9997), ("lease", 2, 9998), ("rows", 9999), ("lease", 0, 9999)]


def test_an_end_that_finds_no_descriptor_is_lost_and_the_stream_goes_on(start: Start, context: SpawnContext) -> None:
    channel, process = start(children.receive_mailboxes)
    assert channel.receive(PATIENCE_S) == ("up", process.pid)
    channel.send(("limit", 3))
    assert channel.receive(PATIENCE_S) == ("limited", 3)
    lost, theirs = context.Pipe()
    channel.send_end(("mailbox", 1), theirs)
    assert channel.receive(PATIENCE_S) == ("lost", 1)
    box = Channel(lost)
    with pytest.raises(PeerGone):
        box.receive(PATIENCE_S)
    box.close()
    channel.send(("limit", 0))
    assert channel.receive(PATIENCE_S) == ("limited", 0)
    ours, theirs = context.Pipe()
    channel.send_end(("mailbox", 2), theirs)
    box = Channel(ours)
    assert box.receive(PATIENCE_S) == ("hello", 2)
    box.close()


def test_half_a_frame_of_a_writer_that_stopped_keeps_nobody_waiting() -> None:
    ours, theirs = socket.socketpair()
    reader = Channel.of_descriptor(theirs.detach())
    other, end = socket.socketpair()
    writer = Channel.of_descriptor(other.detach())
    writer.send(("whole", 1))
    frame = end.recv(4096)
    ours.send(frame[:3])
    assert reader.receive(0.0) is None
    ours.send(frame[3:9])
    assert reader.receive(0.0) is None
    ours.send(frame[9:] + frame)
    assert reader.receive(0.0) == ("whole", 1)
    assert reader.receive(0.0) == ("whole", 1)
    ours.send(frame[:5])
    ours.close()
    with pytest.raises(PeerGone):
        reader.receive(0.0)
    for one in (reader, writer, end):
        one.close()


def test_an_end_of_a_pipe_can_be_handed_to_a_running_process_and_leaves_no_descriptor(
    start: Start, context: SpawnContext
) -> None:
    channel, process = start(children.receive_mailboxes)
    assert channel.receive(PATIENCE_S) == ("up", process.pid)
    assert process.pid is not None
    channel.send(("fds",))
    before = channel.receive(PATIENCE_S)
    ours_before = len(os.listdir("/proc/self/fd"))
    mailboxes = []
    for generation in range(20):
        ours, theirs = context.Pipe()
        channel.send_end(("mailbox", generation), theirs)
        mailboxes.append(Channel(ours))
    for generation, mailbox in enumerate(mailboxes):
        assert mailbox.receive(PATIENCE_S) == ("hello", generation)
    channel.send(("drop",))
    for mailbox in mailboxes:
        with pytest.raises(PeerGone):
            mailbox.receive(PATIENCE_S)
        mailbox.close()
    channel.send(("fds",))
    assert channel.receive(PATIENCE_S) == before
    assert len(os.listdir("/proc/self/fd")) == ours_before


def test_a_mailbox_dies_with_its_reader_although_the_maker_lives(start: Start, context: SpawnContext) -> None:
    channel, process = start(children.receive_mailboxes)
    assert channel.receive(PATIENCE_S) == ("up", process.pid)
    assert process.pid is not None
    ours, theirs = context.Pipe()
    channel.send_end(("mailbox", 1), theirs)
    mailbox = Channel(ours)
    assert mailbox.receive(PATIENCE_S) == ("hello", 1)
    process.kill()
    with pytest.raises(PeerGone):
        mailbox.receive(PATIENCE_S)
    mailbox.close()


def test_handing_an_end_to_a_dead_process_is_peer_gone(start: Start, context: SpawnContext) -> None:
    channel, process = start(children.receive_mailboxes)
    assert channel.receive(PATIENCE_S) == ("up", process.pid)
    assert process.pid is not None
    process.kill()
    process.join(PATIENCE_S)
    ours, theirs = context.Pipe()
    with pytest.raises(PeerGone):
        channel.send_end(("mailbox", 1), theirs)
    ours.close()
    assert theirs.closed


def test_a_closed_end_is_gone_and_closing_twice_is_harmless(pair: tuple[Channel, Channel]) -> None:
    pair[0].close()
    pair[0].close()
    assert pair[0].closed
    with pytest.raises(PeerGone):
        pair[0].send(("x",))
    with pytest.raises(PeerGone):
        pair[1].receive(PATIENCE_S)
    pair[1].close()


def test_a_queue_of_the_standard_library_is_poisoned_when_its_idle_reader_is_killed(
    start: Start, context: SpawnContext
) -> None:
    """Why the house has pipes: the reader waits with the queue's lock in its hand, and nobody gives it back."""
    queue = context.Queue()
    first, process = start(children.get_from_queue, first=(queue,))
    assert first.receive(PATIENCE_S) == ("up", process.pid)
    # It waits inside get() once the lock is taken: only then is it the idle reader that we mean.
    eventually(lambda: _is_locked(queue), what="the reader to wait in get()")
    process.kill()
    process.join(PATIENCE_S)
    successor, heir = start(children.get_from_queue, first=(queue,))
    assert successor.receive(PATIENCE_S) == ("up", heir.pid)
    queue.put("ticket")
    eventually(lambda: _has_a_frame(queue), what="the frame to be in the queue's pipe")
    assert _is_locked(queue)
    assert successor.receive(1.0) is None
    heir.kill()
    queue.close()
    queue.join_thread()


def _has_a_frame(queue: object) -> bool:
    return bool(queue._reader.poll(0))  # type: ignore[attr-defined]


def _is_locked(queue: object) -> bool:
    lock = queue._rlock  # type: ignore[attr-defined]
    if lock.acquire(block=False):
        lock.release()
        return False
    return True


def test_a_pipe_made_anew_serves_the_successor_of_a_killed_reader(start: Start) -> None:
    for _ in range(2):
        channel, process = start(children.echo)
        assert channel.receive(PATIENCE_S) == ("up", process.pid)
        channel.send(("ticket", 1))
        assert channel.receive(PATIENCE_S) == ("echo", "ticket", 1)
        process.kill()
        process.join(PATIENCE_S)
