"""Children forked from a template: alike, apart, and replaceable by fresh ones."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from effcompile.errors import WorkerDied
from effcompile.measure.child import ChildProcess
from effcompile.measure.template import Template

MODULE = "tests.effcompile.measure.misbehaving_child"


@pytest.fixture
def template(tmp_path: Path) -> Iterator[Template]:
    made = Template(
        MODULE, log_path=tmp_path / "template.log", environment={"OMP_NUM_THREADS": "1"}
    )
    yield made
    made.close()


def child_of(template: Template, tmp_path: Path, name: str = "child") -> ChildProcess:
    return ChildProcess(MODULE, log_path=tmp_path / f"{name}.log", spawner=template)


def ask(child: ChildProcess, how: str) -> str:
    return child.call("behave", how, answer=str, timeout_s=20.0)


def parent_of(pid: int | None) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rsplit(")", 1)[1].split()[1])


def test_children_come_from_the_template_and_have_logs_of_their_own(
    template: Template, tmp_path: Path
) -> None:
    children = [child_of(template, tmp_path, name) for name in ("a", "b")]
    for child in children:
        ask(child, "print")
        assert parent_of(child.pid) == template.pid
        assert child.log_path.read_text().count("stray output") == 1000
    assert len({child.pid for child in children}) == 2
    for child in children:
        child.kill()


def test_what_the_template_did_first_every_child_has(template: Template, tmp_path: Path) -> None:
    template.call("remember", "the intrinsics")
    child = child_of(template, tmp_path)
    assert child.call("recall", None, answer=str, timeout_s=20.0) == "the intrinsics"
    child.kill()


def test_a_template_with_threads_is_not_forked(template: Template, tmp_path: Path) -> None:
    template.call("start_thread", None)
    child = child_of(template, tmp_path)
    assert ask(child, "well") == "did well"
    assert parent_of(child.pid) == os.getpid()
    child.kill()


def test_a_template_that_dies_takes_its_children_along_and_is_not_missed(
    template: Template, tmp_path: Path
) -> None:
    child = child_of(template, tmp_path)
    assert ask(child, "well") == "did well"
    assert template.pid is not None
    os.kill(template.pid, signal.SIGKILL)
    with pytest.raises(WorkerDied, match="killed by signal 9"):
        ask(child, "hang")
    assert ask(child, "well") == "did well"
    assert parent_of(child.pid) == os.getpid()
    child.kill()


def test_a_module_that_cannot_be_loaded_says_so_in_the_childs_own_words(tmp_path: Path) -> None:
    module = "tests.effcompile.measure.no_such_child"
    template = Template(module, log_path=tmp_path / "template.log", environment={})
    child = ChildProcess(module, log_path=tmp_path / "child.log", spawner=template)
    with pytest.raises(WorkerDied, match="No module named"):
        ask(child, "well")
    assert "no_such_child" in (tmp_path / "template.log").read_text()
    template.close()


def test_closing_the_template_leaves_no_process(template: Template, tmp_path: Path) -> None:
    child = child_of(template, tmp_path)
    ask(child, "well")
    pids = [template.pid, child.pid]
    child.kill()
    template.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
