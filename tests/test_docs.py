"""What the documentation shows works: examples are executed, links and commands exist."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


@contextmanager
def example(title: str, page: str = "docs/extending.md") -> Iterator[dict[str, Any]]:
    """What the Python blocks of one section of a page define."""
    from effcompile.frontend.converters import registry

    text = (ROOT / page).read_text()
    section = re.split(rf"^#+ {re.escape(title)}\n", text, flags=re.M)[1].split("\n## ")[0]
    code = "\n".join(re.findall(r"```python\n(.*?)```", section, re.DOTALL))
    # Classes, and torch's exporter above all, look their own module up.
    module = types.ModuleType("documentation_example")
    registry.find_converter("", "Attention")  # loads those of the package
    known = dict(registry._converters)
    sys.modules[module.__name__] = module
    try:
        exec(compile(code, f"{page}: {title}", "exec"), module.__dict__)
        yield module.__dict__
    finally:
        del sys.modules[module.__name__]
        registry._converters.clear()
        registry._converters.update(known)


def test_kernel_family_is_right_at_every_point() -> None:
    from schedules import _tvm
    from schedules.inputs import make_inputs
    from schedules.reference import compare, compute_reference, tolerance_of

    with example("A kernel family") as shown:
        task, space = shown["task"], shown["space"]
        inputs = make_inputs(task.workload, seed=0)
        (reference,) = compute_reference(task.workload, inputs)
        tvm, target = _tvm.load(), _tvm.tvm_target(task.target)
        for candidate in space.sample(3, np.random.default_rng(0)):
            with target:
                library = tvm.compile(space.realise(candidate), target=target)
            output = tvm.runtime.empty(reference.shape, "float32")
            library["main"](tvm.runtime.tensor(inputs[0]), output)
            assert compare(output.numpy(), reference, tolerance_of(task.workload)) is None


def test_masks_are_exported_as_the_page_says() -> None:
    with example("Masks in attention", "docs/attention.md") as shown:
        assert len(shown["model"].graph.node) == 2


def test_onnx_converter_agrees_with_the_definition() -> None:
    from onnx import helper

    from effcompile.frontend.operators import unsupported_operators
    from tests.effcompile.lowered_models import graph_model, lowered, run_lowered

    x = np.linspace(-3, 3, 32, dtype=np.float32).reshape(4, 8)
    model = graph_model([helper.make_node("Celu", ["x"], ["y"], alpha=2.0)], {"x": x}, ["y"])
    assert [node.op_type for node in unsupported_operators(model)] == ["Celu"]
    with example("An ONNX operator"):
        (found,) = run_lowered(lowered(model), [x])
    expected = np.maximum(0, x) + np.minimum(0, 2 * (np.exp(x / 2) - 1))
    # A few float32 roundings.
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_custom_operator_agrees_with_pytorch() -> None:
    from tests.effcompile.lowered_models import lowered, run_lowered

    with example("An operator of your own, from PyTorch") as shown:
        inputs = shown["example_inputs"]
        (found,) = run_lowered(lowered(shown["model"]), [x.numpy() for x in inputs])
        expected = shown["Gate"]()(*inputs).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_meter_gives_the_energy_that_was_spent(tmp_path: Path) -> None:
    from effcompile.errors import MeterUnavailable
    from effcompile.measure.energy import Effort, evaluate, observe
    from search.trial import Verdict
    from tests.simulated_meter import Clock, SimulatedLoad

    power_w, path, clock = 200.0, tmp_path / "energy1_input", Clock()
    path.write_text("0")

    class Counting(SimulatedLoad):
        def advance(self) -> None:
            super().advance()
            path.write_text(str(int(clock() * power_w * 1e6)))

    load = Counting(clock=clock, latency_us=50.0, batch=20)
    effort = Effort(window_ms=300.0)
    with example("A meter") as shown:
        meter = shown["HwmonMeter"](path)
        observation = observe(load, meter, effort=effort, clock=clock)
        path.unlink()
        with pytest.raises(MeterUnavailable, match="energy1_input"):
            meter.counter_mj()
    measured = evaluate(observation, effort=effort, meter=meter.name)
    assert measured.verdict is Verdict.OK
    # 200 W for 50 us.
    assert measured.energy_mj == pytest.approx(10.0, rel=1e-3)


def test_strategy_proposes_neighbours_of_the_best() -> None:
    from search.history import TaskHistory
    from search.trial import TrialState
    from tests.doubles import SimulatedSpace, knobs_of, make_task
    from tests.search.makers import latency, trial_of

    space, history = SimulatedSpace(), TaskHistory(make_task(), position=0)
    candidates = space.sample(4, np.random.default_rng(1))
    for number, candidate in enumerate(candidates, start=1):
        timing = latency(100.0 * number)
        history.add(trial_of(number, candidate=candidate, state=TrialState.OK, latency=timing))
    with example("A search strategy") as shown:
        strategy = shown["HillClimb"]()
        first, second = (
            strategy.propose(history, space, 6, ranker=None, rng=np.random.default_rng(0))
            for _ in range(2)
        )
    assert first == second
    assert len({one.candidate.candidate_id for one in first}) == 6
    best = knobs_of(candidates[0])
    mutated = [knobs_of(one.candidate) for one in first if one.origin == "mutate"]
    assert mutated
    assert all(sum(a != b for a, b in zip(best, knobs, strict=True)) == 1 for knobs in mutated)


def test_energy_policy_picks_the_fastest() -> None:
    from search.energy_policy import EnergyCandidate, EnergyState

    state = EnergyState(
        candidates=[
            EnergyCandidate(trial_id=i, latency_us=latency_us, energy_mj=1.0, spread_mj=0.0)
            for i, latency_us in enumerate([30.0, 10.0, 20.0], start=1)
        ]
    )
    with example("An energy policy") as shown:
        picks = shown["FastestFirst"](2).pick(state, np.random.default_rng(0))
    assert [pick.trial_id for pick in picks] == [2, 3]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    missing = [
        target
        for target in targets
        if not target.startswith(("http://", "https://")) and not (page.parent / target).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_exist(page: Path) -> None:
    folders = "effcompile|search|schedules|cost_models|tests|examples|scripts|docs"
    named = re.findall(rf"`((?:{folders})/[\w/.-]+\.(?:py|md|sh))`", page.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_shown_commands_and_options_exist(page: Path) -> None:
    import typer

    from effcompile.cli.main import app

    root: Any = typer.main.get_command(app)
    text = page.read_text()
    blocks = "".join(re.findall(r"^```\n(.*?)^```", text, re.M | re.S))
    shown = re.findall(r"^(?:\$ )?effcompile ([a-z].*)", blocks, re.M)
    shown += re.findall(r"`effcompile ([a-z][^`|]*)`", text)
    for line in shown:
        words = line.split()
        command = root
        while words and hasattr(command, "commands") and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        assert command is not root, f"no command: effcompile {line}"
        options = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
        options |= {"--help", "-h"}
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used <= options, f"effcompile {line}: {sorted(used - options)} unknown"
