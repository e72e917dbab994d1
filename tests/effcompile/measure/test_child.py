from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from effcompile.errors import WorkerDied, WorkerLate, WorkerRaised
from effcompile.measure import channel
from effcompile.measure.child import ChildProcess
from effcompile.measure.template import Template

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
MODULE = "tests.effcompile.measure.misbehaving_child"


@pytest.fixture(params=["fresh", "forked"])
def child(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ChildProcess]:
    environment = {"PID_FILE": str(tmp_path / "pid"), **ONE_THREAD}
    template = Template(MODULE, log_path=tmp_path / "template.log", environment=environment)
    made = ChildProcess(
        MODULE,
        log_path=tmp_path / "logs" / "child.log",
        environment=environment,
        memory_limit_mib=1024,
        spawner=template if request.param == "forked" else None,
    )
    yield made
    assert (template.pid is not None) == (request.param == "forked")
    made.kill()
    template.close()


def ask(child: ChildProcess, how: str, *, timeout_s: float = 20.0) -> str:
    return child.call("behave", how, answer=str, timeout_s=timeout_s)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    return False


def wait_until_dead(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not is_alive(pid)


def test_one_child_answers_many_calls(child: ChildProcess) -> None:
    assert [ask(child, "well") for _ in range(3)] == ["did well"] * 3
    assert child.n_starts == 1


@pytest.mark.parametrize("how", ["hang", "hang deaf"])
def test_a_hanging_child_is_killed_and_the_next_call_is_healthy(
    child: ChildProcess, how: str
) -> None:
    before = ask(child, "well")
    pid = child.pid
    with pytest.raises(WorkerLate, match=r"within 0\.3 s"):
        ask(child, how, timeout_s=0.3)
    assert pid is not None
    assert not is_alive(pid)
    assert ask(child, "well") == before


@pytest.mark.parametrize(
    ("how", "cause"), [("crash", "killed by signal 6"), ("exit", "exited with status 7")]
)
def test_a_dying_child_says_how_and_the_next_call_is_healthy(
    child: ChildProcess, how: str, cause: str
) -> None:
    before = ask(child, "well")
    with pytest.raises(WorkerDied, match=cause):
        ask(child, how)
    assert ask(child, "well") == before


def test_a_child_killed_between_calls_is_started_again(child: ChildProcess) -> None:
    before = ask(child, "well")
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    with contextlib.suppress(WorkerDied):
        ask(child, "well")
    assert ask(child, "well") == before


def test_an_error_of_the_child_has_its_class_and_leaves_it_running(child: ChildProcess) -> None:
    with pytest.raises(WorkerRaised, match="no such knob") as caught:
        ask(child, "raise")
    assert caught.value.kind == "ValueError"
    assert ask(child, "well") == "did well"
    assert child.n_starts == 1
    assert "Traceback" in child.log_path.read_text()


def test_memory_is_bounded(child: ChildProcess) -> None:
    with pytest.raises(WorkerRaised) as caught:
        ask(child, "eat memory")
    assert caught.value.kind == "MemoryError"
    assert ask(child, "well") == "did well"


def test_stray_output_goes_to_the_log_and_not_into_answers(child: ChildProcess) -> None:
    assert ask(child, "print") == "did print"
    assert "stray output" in child.log_path.read_text()


def test_what_a_child_started_dies_with_it(child: ChildProcess, tmp_path: Path) -> None:
    with pytest.raises(WorkerLate):
        ask(child, "start another and hang", timeout_s=1.5)
    assert wait_until_dead(int((tmp_path / "pid").read_text()))


def test_an_interrupt_is_the_parents_business(child: ChildProcess) -> None:
    ask(child, "well")
    assert child.pid is not None
    os.kill(child.pid, signal.SIGINT)
    assert ask(child, "well") == "did well"
    assert child.n_starts == 1


def test_a_request_larger_than_the_pipe_arrives(child: ChildProcess) -> None:
    long = "x" * 3_000_000
    assert ask(child, long) == f"did {long}"


SPAWNERS = {
    "fresh": "None",
    "forked": f"Template({MODULE!r}, log_path=log, environment={ONE_THREAD!r})",
}


@pytest.mark.skipif(sys.platform != "linux", reason="the parent's death signal is Linux's")
@pytest.mark.parametrize("spawner", SPAWNERS)
def test_a_child_dies_when_its_parent_is_killed(tmp_path: Path, spawner: str) -> None:
    code = (
        "from pathlib import Path; from effcompile.measure.child import ChildProcess\n"
        "from effcompile.measure.template import Template\n"
        f"log = Path({str(tmp_path / 'log')!r}); spawner = {SPAWNERS[spawner]}\n"
        f"child = ChildProcess({MODULE!r}, log_path=log, spawner=spawner)\n"
        "child.start(); print(child.pid, flush=True)\n"
        "child.call('behave', 'hang', answer=str, timeout_s=100)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert wait_until_dead(pid)


def test_an_interrupted_call_leaves_no_answer_for_the_next(
    child: ChildProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(child, "well")

    def interrupted(*_: object, **__: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(channel, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ask(child, "first")
    assert ask(child, "second") == "did second"
