"""What the children of these tests do: module functions, so that spawn can start them."""

from __future__ import annotations

import os
import resource
import signal
from multiprocessing.connection import Connection
from typing import Any

from kps.process.channels import Channel, EndLost, PeerGone
from kps.process.shared_stats import Cell, SharedStats, Stats

FOREVER_S = 60.0
"""Longer than any test; a child that waits so long in vain ends by itself."""


def echo(control: Connection[Any, Any]) -> None:
    """Say every frame back until the peer is gone."""
    channel = Channel(control)
    channel.send(("up", os.getpid()))
    try:
        while (message := channel.receive(FOREVER_S)) is not None:
            channel.send(("echo", *message))
    except PeerGone:
        return


def speak_and_die(control: Connection[Any, Any], words: int) -> None:
    """Say something, then die without any farewell."""
    channel = Channel(control)
    for number in range(words):
        channel.send(("word", number))
    os.kill(os.getpid(), signal.SIGKILL)


def receive_mailboxes(control: Connection[Any, Any]) -> None:
    """Take ends of pipes, and greet whoever is at the other side of each."""
    channel = Channel(control)
    channel.send(("up", os.getpid()))
    kept = []
    try:
        while (message := channel.receive(FOREVER_S)) is not None:
            match message:
                case ("mailbox", generation):
                    try:
                        mailbox = channel.receive_end()
                    except EndLost:
                        channel.send(("lost", generation))
                        continue
                    mailbox.send(("hello", generation))
                    kept.append(mailbox)
                case ("limit", int(count)):
                    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
                    resource.setrlimit(resource.RLIMIT_NOFILE, (count or hard, hard))
                    channel.send(("limited", count))
                case ("fds",):
                    channel.send(("fds", len(os.listdir("/proc/self/fd"))))
                case ("drop",):
                    for mailbox in kept:
                        mailbox.close()
                    kept.clear()
    except PeerGone:
        return


def read_nothing(control: Connection[Any, Any]) -> None:
    """Be there, but do not read until the parent has gone or is satisfied."""
    channel = Channel(control)
    channel.send(("up", os.getpid()))
    signal.pause()
    channel.close()


def get_from_queue(queue: Any, control: Connection[Any, Any]) -> None:
    """Read a queue of the standard library and report what came."""
    channel = Channel(control)
    channel.send(("up", os.getpid()))
    channel.send(("got", queue.get()))


def count(control: Connection[Any, Any], file: str, number: int) -> None:
    """Count in a slot of that file, then wait to be killed."""
    stats = Stats(SharedStats(os.open(file, os.O_RDWR)).pair(number).stats)
    stats.beat()
    stats.add(Cell.CLAIMED)
    stats.add(Cell.BYTES, 100)
    stats.observe_print(0.03)
    channel = Channel(control)
    channel.send(("up", os.getpid()))
    signal.pause()
    channel.close()
