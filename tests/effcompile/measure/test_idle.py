from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from effcompile.measure.idle import Idle


def test_everything_is_handed_out_once_and_comes_back() -> None:
    idle = Idle(["a", "b"])
    with idle.taken() as first, idle.taken() as second:
        assert {first, second} == {"a", "b"}
    with idle.taken() as first, idle.taken(urgent=True) as second:
        assert {first, second} == {"a", "b"}


def test_the_urgent_go_before_those_who_waited_longer() -> None:
    idle, served = Idle(["only"]), []
    in_line = threading.Semaphore(0)

    def use(name: str, urgent: bool) -> None:
        in_line.release()
        with idle.taken(urgent=urgent):
            served.append(name)

    with ThreadPoolExecutor(4) as threads, idle.taken():
        for name, urgent in (("build", False), ("other build", False), ("plan", True)):
            threads.submit(use, name, urgent)
            in_line.acquire()
        # Each announced itself; let the last one begin to wait.
        while idle._n_urgent == 0:
            time.sleep(0.001)
    assert served[0] == "plan"
    assert sorted(served) == ["build", "other build", "plan"]


def test_what_was_used_by_a_body_that_raised_comes_back() -> None:
    idle = Idle(["only"])
    try:
        with idle.taken():
            raise OSError
    except OSError:
        pass
    with idle.taken() as again:
        assert again == "only"
