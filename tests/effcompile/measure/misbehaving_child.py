"""A child process that can be told to do everything a child should not."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

from effcompile.measure import serving


def behave(how: str) -> str:
    if how == "hang":
        time.sleep(3600)
    if how == "hang deaf":
        import signal

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            pass
    if how == "crash":
        os.abort()
    if how == "exit":
        os._exit(7)
    if how == "raise":
        raise ValueError("no such knob")
    if how == "eat memory":
        return str(len(bytearray(4 << 30)))
    if how == "print":
        sys.stdout.write("stray output\n" * 1000)
        sys.stdout.flush()
    if how == "start another and hang":
        other = subprocess.Popen(["sleep", "3600"])
        with open(os.environ["PID_FILE"], "w") as file:
            file.write(str(other.pid))
        time.sleep(3600)
    return f"did {how}"


_memory: list[str] = []


def remember(what: str) -> None:
    _memory.append(what)


def recall(_: None) -> str:
    return _memory[-1]


def start_thread(_: None) -> None:
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()


def load() -> None:
    """Nothing to import."""


ENDPOINTS = {
    "behave": serving.Endpoint(request=str, function=behave),
    "remember": serving.Endpoint(request=str, function=remember),
    "recall": serving.Endpoint(request=None, function=recall),
    "start_thread": serving.Endpoint(request=None, function=start_thread),
}


def main() -> None:
    serving.serve(serving.join_parent(sys.argv[1:]), ENDPOINTS)


if __name__ == "__main__":
    main()
