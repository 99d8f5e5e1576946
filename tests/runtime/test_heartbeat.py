"""A process that is lost is noticed by all others, one that computes alone is not lost."""

import socket
import time
from collections.abc import Sized
from functools import partial
from typing import Any

import pytest

from thermoebm.runtime import heartbeat
from thermoebm.runtime.heartbeat import Heartbeat


@pytest.fixture
def group(monkeypatch):
    """Makes the heartbeats of a few processes, here threads of one, and keeps who has lost whom and when."""
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.05)
    monkeypatch.setattr(heartbeat, "LONGEST", 1.0)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    beats: list[Heartbeat] = []
    losses: dict[int, tuple[int, float]] = {}

    def make(size: int, **news: Any) -> tuple[list[Heartbeat], dict[int, tuple[int, float]]]:
        said: list[tuple[int, str]] = []

        def agree(value: tuple[int, str]) -> tuple[int, str]:
            said.append(value)
            return said[0]

        for rank in range(size):

            def lost(other: int, rank: int = rank) -> None:
                losses[rank] = other, time.monotonic()

            beats.append(Heartbeat(rank, agree, lost, **{name: partial(f, rank) for name, f in news.items()}))
        for beat in beats:
            beat.start()
        return beats, losses

    yield make
    for beat in beats:
        beat.stop()
    for beat in beats:
        beat.join(5)


def wait(news: Sized, count: int, longest: float) -> None:
    end = time.monotonic() + longest
    while len(news) < count and time.monotonic() < end:
        time.sleep(0.02)


def test_processes_that_live_lose_nobody(group):
    beats, losses = group(4)
    time.sleep(3)
    assert not losses
    assert all(len(beat._heard) == (3 if rank == 0 else 1) for rank, beat in enumerate(beats))


@pytest.mark.parametrize("gone", [0, 2])
def test_all_others_notice_a_loss_at_once(group, gone):
    """The first process, whose silence each other one notices itself, or another, of which the first one tells."""
    beats, losses = group(4)
    time.sleep(0.5)
    began = time.monotonic()
    beats[gone].stop()
    wait(losses, 3, 10)
    assert {rank: other for rank, (other, _) in losses.items()} == {rank: gone for rank in range(4) if rank != gone}
    assert all(0.8 < when - began < 5 for _, when in losses.values())


def test_a_signal_to_one_is_told_to_the_first_and_its_end_to_all_others(group):
    received, ended = [], []
    asked = {2: 0}  # the third process has no signal yet
    beats, losses = group(
        3,
        asked=lambda rank: asked.get(rank, 0),
        ask=lambda rank, number: received.append((rank, number)),
        ended=lambda rank: ended.append(rank),
    )
    time.sleep(0.5)
    assert received == ended == []
    asked[2] = 15
    wait(received, 1, 10)
    assert set(received) == {(0, 15)}
    beats[0].end()
    wait(ended, 6, 10)
    assert sorted(set(ended)) == [1, 2]
    assert not losses


def test_datagrams_of_strangers_do_not_count(group):
    """They neither announce a loss nor stand for a process that is lost."""
    (first, second), losses = group(2)
    time.sleep(0.3)
    address = "127.0.0.1", first._socket.getsockname()[1]
    with socket.socket(type=socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"0123456789abcdef 1 lost 1", address)
        time.sleep(0.2)
        assert not losses
        second.stop()
        end = time.monotonic() + 10
        while not losses and time.monotonic() < end:
            stranger.sendto(b"0123456789abcdef 1 beats 0", address)
            stranger.sendto(b"nonsense", address)
            time.sleep(0.02)
    assert losses[0][0] == 1


def test_who_was_never_heard_of_is_not_missed(group, monkeypatch):
    monkeypatch.setattr(Heartbeat, "_send", lambda *_: None)  # a network without datagrams
    _, losses = group(3)
    time.sleep(2)
    assert not losses
