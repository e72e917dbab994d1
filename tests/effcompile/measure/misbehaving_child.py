"""A child process that can be told to do everything a child should not."""

from __future__ import annotations

import os
import subprocess
import sys
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


def main() -> None:
    wiring = serving.join_parent(sys.argv[1:])
    endpoints = {"behave": serving.Endpoint(request=str, function=behave)}
    serving.serve(wiring, endpoints)


if __name__ == "__main__":
    main()
