"""A desk's answers come without the event loop waiting, and nobody works for those who left."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest

from avfake.process import Fault
from avfake.serve.desks import Desk, Stopped
from tests.processes import gone


def working() -> Callable[[float], int]:
    return work


def work(seconds: float) -> int:
    """Take some time and answer with the process's number; less than none is a fault."""
    if seconds < 0:
        raise ValueError("less than nothing")
    time.sleep(seconds)
    return os.getpid()


@contextmanager
def desk(short: bool = False) -> Iterator[Desk]:
    one = Desk(working, None, short=short)
    try:
        yield one
    finally:
        one.close()
        one.close()


def test_the_loop_goes_on_while_a_process_works() -> None:
    async def main(one: Desk) -> None:
        first = await one.ask(0, 60)
        task, turns = asyncio.create_task(one.ask(0.5, 60)), 0
        while not task.done():
            await asyncio.sleep(0.01)
            turns += 1
        assert task.result() == first != os.getpid()
        assert turns > 10

    with desk() as one:
        asyncio.run(main(one))


@pytest.mark.parametrize("short", [False, True])
def test_who_leaves_ends_the_work_unless_it_is_short(short: bool) -> None:
    async def main(one: Desk) -> None:
        first = await one.ask(0, 60)
        begun = asyncio.create_task(one.ask(1.0 if short else 600.0, 900))
        waiting = asyncio.create_task(one.ask(600.0, 900))
        await asyncio.sleep(0.3)
        assert one.waiting == 2
        begun.cancel()
        waiting.cancel()
        second = await one.ask(0, 60)
        assert (second == first) is short
        assert one.waiting == 0

    with desk(short) as one:
        asyncio.run(main(one))


def test_who_leaves_goes_on_once_the_work_has_ended() -> None:
    async def main(one: Desk) -> None:
        process = await one.ask(0, 60)
        task = asyncio.create_task(one.ask(600.0, 900))
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.wait([task])
        assert not psutil.pid_exists(process)

    with desk() as one:
        asyncio.run(main(one))


def test_a_process_whose_work_raised_is_not_used_again() -> None:
    async def main(one: Desk) -> None:
        first = await one.ask(0, 60)
        with pytest.raises(ValueError, match="less than nothing"):
            await one.ask(-1, 60)
        assert await one.ask(0, 60) != first
        with pytest.raises(Fault, match="more than"):
            await one.ask(60, 0.2)

    with desk() as one:
        asyncio.run(main(one))


def test_a_desk_at_rest_has_no_process_and_one_that_closes_kills_its_own() -> None:
    async def main(one: Desk) -> None:
        first = await one.ask(0, 60)
        one.rest()
        assert await asyncio.to_thread(gone, first)
        pids.append(await one.ask(0, 60))
        task = asyncio.create_task(one.ask(600, 900))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(one.close)
        with pytest.raises(Stopped):
            await task

    pids: list[int] = []
    with desk() as one:
        started = time.monotonic()
        asyncio.run(main(one))
    assert gone(pids[0])
    assert time.monotonic() - started < 60
