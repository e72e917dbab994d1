from __future__ import annotations

import os
import signal

import pytest

from search.stopping import StopRequest, stop_on_interrupt


def test_the_first_request_is_remembered_the_second_stops_at_once() -> None:
    stop = StopRequest()
    assert not stop.is_set
    stop.request()
    assert stop.is_set
    with pytest.raises(KeyboardInterrupt):
        stop.request()


def test_interrupts_become_requests_while_the_body_runs() -> None:
    before = signal.getsignal(signal.SIGINT)
    stop = StopRequest()
    with stop_on_interrupt(stop):
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.is_set
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before
