"""The newest item wins; replaced ones are known; stopping is clean."""

from __future__ import annotations

import threading

from depth_node.worker import LatestSlot, LatestWorker


def test_slot_keeps_the_newest() -> None:
    slot: LatestSlot[int] = LatestSlot()
    assert [slot.put(item) for item in (1, 2, 3)] == [False, True, True]
    assert slot.take() == 3
    assert slot.put(4) is False


def test_take_waits_for_an_item() -> None:
    slot: LatestSlot[int] = LatestSlot()
    taken: list[int | None] = []
    thread = threading.Thread(target=lambda: taken.append(slot.take()))
    thread.start()
    assert thread.is_alive()
    slot.put(7)
    thread.join(5)
    assert taken == [7]


def test_closing_wakes_and_loses_what_waits() -> None:
    slot: LatestSlot[int] = LatestSlot()
    slot.put(1)
    assert slot.close() is True
    assert slot.take() is None
    assert slot.put(2) is True
    assert slot.close() is False


def test_worker_skips_what_came_while_it_was_busy() -> None:
    begun, may_finish = threading.Event(), threading.Event()
    done: list[int] = []

    def work(item: int) -> None:
        begun.set()
        assert may_finish.wait(5)
        done.append(item)

    worker = LatestWorker(work)
    worker.submit(0)
    assert begun.wait(5)
    lost = [worker.submit(item) for item in range(1, 6)]
    may_finish.set()
    while len(done) < 2:
        may_finish.wait(0.001)
    assert lost == [False, True, True, True, True]
    assert worker.stop() is False
    assert done == [0, 5]


def test_stop_finishes_the_item_at_work_and_drops_the_next() -> None:
    begun, may_finish = threading.Event(), threading.Event()
    done: list[int] = []

    def work(item: int) -> None:
        begun.set()
        assert may_finish.wait(5)
        done.append(item)

    worker = LatestWorker(work, name="depth")
    worker.submit(0)
    assert begun.wait(5)
    worker.submit(1)
    threading.Timer(0.05, may_finish.set).start()
    assert worker.stop() is True
    assert done == [0]
    assert worker.submit(2) is True
    assert not any(thread.name == "depth" for thread in threading.enumerate())


def test_no_item_is_lost_uncounted() -> None:
    """Submitted = done + lost, whatever the timing."""
    done: list[int] = []
    worker = LatestWorker(done.append)
    lost = sum(worker.submit(item) for item in range(20_000))
    lost += worker.stop()
    assert len(done) + lost == 20_000
    assert done == sorted(done)
