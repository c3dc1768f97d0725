import asyncio

import pytest

from sodakit.serve.problems import Problem
from sodakit.serve.turns import CALLER, Turns


async def hold(turns, line, order, release):
    CALLER.set(line)
    async with turns.taken():
        order.append(line)
        await release.wait()


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


def run(scene):
    return asyncio.run(asyncio.wait_for(scene(), 10))


def test_a_crowd_from_one_caller_leaves_a_place_for_the_next():
    async def scene():
        turns, order, release = Turns(3, 10, 5.0), [], asyncio.Event()
        tasks = [asyncio.create_task(hold(turns, "crowd", order, release)) for _ in range(5)]
        await settle()
        assert (turns.num_held, turns.num_waiting) == (2, 3)
        tasks.append(asyncio.create_task(hold(turns, "other", order, release)))
        await settle()
        assert order == ["crowd", "crowd", "other"]
        release.set()
        await asyncio.gather(*tasks)
        assert (turns.num_held, turns.num_waiting) == (0, 0)

    run(scene)


def test_lines_are_served_one_after_another():
    async def scene():
        turns, order, first = Turns(1, 10, 5.0), [], asyncio.Event()
        tasks = [asyncio.create_task(hold(turns, line, order, first)) for line in "aaabbc"]
        await settle()
        first.set()
        await asyncio.gather(*tasks)
        assert "".join(order) == "aabcab"

    run(scene)


def test_where_too_many_wait_the_longest_line_loses_its_last():
    async def scene():
        turns, order, release = Turns(1, 3, 5.0), [], asyncio.Event()
        crowd = [asyncio.create_task(hold(turns, "crowd", order, release)) for _ in range(4)]
        await settle()
        with pytest.raises(Problem, match="3 requests are waiting"):
            await hold(turns, "crowd", order, release)
        other = asyncio.create_task(hold(turns, "other", order, release))
        await settle()
        assert crowd[3].done() and crowd[3].exception().status == 429
        release.set()
        await asyncio.gather(other, *crowd[:3])
        assert order.count("other") == 1

    run(scene)


def test_who_gives_up_or_waits_too_long_holds_nothing():
    async def scene():
        turns, order, release = Turns(1, 3, 0.05), [], asyncio.Event()
        first = asyncio.create_task(hold(turns, "a", order, release))
        gone = asyncio.create_task(hold(turns, "b", order, release))
        await settle()
        gone.cancel()
        with pytest.raises(Problem, match=r"No place within 0\.05 s"):
            await hold(turns, "c", order, release)
        assert turns.num_waiting == 0
        release.set()
        await first
        await hold(turns, "d", order, release)
        assert order == ["a", "d"] and turns.num_held == 0

    run(scene)


def test_a_place_is_given_back_once_however_often_it_is_left():
    async def scene():
        turns = Turns(2, 3, 5.0)
        async with turns.taken() as leave:
            leave()
            leave()
            assert turns.num_held == 0
        assert turns.num_held == 0

    run(scene)


async def expect(turns, line, held):
    CALLER.set(line)
    with turns.expected():
        await held.wait()
        async with turns.taken():
            pass


def test_who_is_expected_counts_as_one_that_waits_and_another_caller_is_still_let_in():
    async def scene():
        turns, here = Turns(3, 2, 5.0), asyncio.Event()
        crowd = [asyncio.create_task(expect(turns, "crowd", here)) for _ in range(6)]
        other = asyncio.create_task(expect(turns, "other", here))
        await settle()
        refused = [task for task in crowd if task.done()]
        assert [task.exception().status for task in refused] == [429, 429] and not other.done()
        here.set()
        await asyncio.gather(other, *(task for task in crowd if task not in refused))
        assert turns.num_held == turns.num_waiting == 0 and not turns._expected

    run(scene)
