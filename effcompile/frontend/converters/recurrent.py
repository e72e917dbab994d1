"""``LSTM``, ``GRU`` and ``RNN`` with a fixed number of steps, written out step by step.

The products with the inputs need no state, so one matrix product serves all steps; what is
left of a step is one product with the state and its gates. Equal steps are one task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from effcompile.frontend.converters.registry import Node, converter
from effcompile.frontend.kernels.marking import type_of

# Every step costs the compiler some milliseconds and the run a few launches.
MOST_STEPS = 512


class Weights:
    """Weights of one direction, in Relax.

    Attributes:
        emit: Binds an expression.
        state: Transposed recurrent weights (hidden, gates x hidden).
        bias: Recurrent bias (gates x hidden), ``None`` without one.
        attrs: Attributes of the node.
    """

    def __init__(self, node: Node, direction: int) -> None:
        self.emit = node.emit
        self.attrs = node.attrs
        self._inputs = self.transposed(node.required(1), direction)
        self.state = self.transposed(node.required(2), direction)
        both = self.row(node.input(3), direction)
        halves = None if both is None else self.parts(both, 2)
        self._input_bias = halves[0] if halves else None
        self.bias = halves[1] if halves else None

    def row(self, stacked: Any, direction: int) -> Any:
        """Entry of one direction, without the axis of directions."""
        from tvm import relax

        if stacked is None:
            return None
        picked = relax.op.strided_slice(stacked, [0], [direction], [direction + 1])
        return self.emit(relax.op.squeeze(self.emit(picked), [0]))

    def transposed(self, stacked: Any, direction: int) -> Any:
        """As the right operand of a product."""
        from tvm import relax

        return self.emit(relax.op.permute_dims(self.row(stacked, direction), [1, 0]))

    def parts(self, value: Any, count: int) -> list[Any]:
        """Equal blocks of the last axis."""
        from tvm import relax

        axis = len(type_of(value)[0]) - 1
        split = self.emit(relax.op.split(value, count, axis=axis))
        return [self.emit(relax.TupleGetItem(split, i)) for i in range(count)]

    def of_inputs(self, x: Any) -> Any:
        """Gates of all steps as far as the inputs decide them."""
        return self.product(x, self._inputs, self._input_bias)

    def product(self, left: Any, right: Any, bias: Any) -> Any:
        """``left @ right + bias``."""
        from tvm import relax

        product = self.emit(relax.op.matmul(left, right))
        return product if bias is None else self.emit(relax.op.add(product, bias))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One kind of recurrent operator.

    Attributes:
        activations: The only ones that are served, ONNX's defaults.
        n_states: What a step hands to the next one; the first is shown as output.
        step: From weights, gates of the inputs and states to the next states.
    """

    activations: tuple[str, ...]
    n_states: int
    step: Callable[[Weights, Any, list[Any]], list[Any]]


@converter("LSTM")
def lstm(node: Node) -> Any:
    """Gates input, output, forget, cell."""
    activations = ("Sigmoid", "Tanh", "Tanh")
    return _recurrent(node, Cell(activations=activations, n_states=2, step=_lstm_step))


@converter("GRU")
def gru(node: Node) -> Any:
    """Gates update, reset, hidden."""
    activations = ("Sigmoid", "Tanh")
    return _recurrent(node, Cell(activations=activations, n_states=1, step=_gru_step))


@converter("RNN")
def rnn(node: Node) -> Any:
    """One gate with tanh."""
    return _recurrent(node, Cell(activations=("Tanh",), n_states=1, step=_rnn_step))


def _lstm_step(weights: Weights, gates: Any, states: list[Any]) -> list[Any]:
    from tvm import relax

    emit, (hidden, cell) = weights.emit, states
    total = emit(relax.op.add(gates, weights.product(hidden, weights.state, weights.bias)))
    enter, leave, keep, fresh = weights.parts(total, 4)
    kept = emit(relax.op.multiply(emit(relax.op.sigmoid(keep)), cell))
    entered = emit(relax.op.multiply(emit(relax.op.sigmoid(enter)), emit(relax.op.tanh(fresh))))
    cell = emit(relax.op.add(kept, entered))
    shown = relax.op.multiply(emit(relax.op.sigmoid(leave)), emit(relax.op.tanh(cell)))
    return [emit(shown), cell]


def _gru_step(weights: Weights, gates: Any, states: list[Any]) -> list[Any]:
    from tvm import relax

    emit, (hidden,) = weights.emit, states
    given = weights.parts(gates, 3)
    of_state = weights.parts(weights.product(hidden, weights.state, weights.bias), 3)
    update, reset = (
        emit(relax.op.sigmoid(emit(relax.op.add(given[i], of_state[i])))) for i in range(2)
    )
    if weights.attrs.get("linear_before_reset"):
        recalled = emit(relax.op.multiply(reset, of_state[2]))
    else:
        right = weights.parts(weights.state, 3)[2]
        bias = None if weights.bias is None else weights.parts(weights.bias, 3)[2]
        recalled = weights.product(emit(relax.op.multiply(reset, hidden)), right, bias)
    fresh = emit(relax.op.tanh(emit(relax.op.add(given[2], recalled))))
    difference = emit(relax.op.subtract(hidden, fresh))
    return [emit(relax.op.add(fresh, emit(relax.op.multiply(update, difference))))]


def _rnn_step(weights: Weights, gates: Any, states: list[Any]) -> list[Any]:
    from tvm import relax

    of_state = weights.product(states[0], weights.state, weights.bias)
    return [weights.emit(relax.op.tanh(weights.emit(relax.op.add(gates, of_state))))]


def _recurrent(node: Node, cell: Cell) -> Any:
    """All directions over all steps; outputs ``Y`` and the last states, as ONNX orders them."""
    from tvm import relax

    n_steps = _checked(node, cell)
    direction = str(node.attrs.get("direction", "forward"))
    orders = {"forward": [1], "reverse": [-1], "bidirectional": [1, -1]}[direction]
    rows, lasts = [], []
    for index, order in enumerate(orders):
        shown, states = _run(node, cell, index, range(n_steps)[::order])
        rows.append(_stacked(node, shown[::order], axis=0))
        lasts.append(states)
    final = [_stacked(node, [one[i] for one in lasts], axis=0) for i in range(cell.n_states)]
    results = [_stacked(node, rows, axis=1), *final]
    return relax.Tuple(results[: node.n_outputs]) if node.n_outputs > 1 else results[0]


def _run(node: Node, cell: Cell, index: int, steps: range) -> tuple[list[Any], list[Any]]:
    """Hidden states of one direction in the order of the steps, and the last states."""
    from tvm import relax

    weights = Weights(node, index)
    gates = weights.of_inputs(node.required(0))
    states = [_initial(node, weights, 5 + i, index) for i in range(cell.n_states)]
    shown = []
    for number in steps:
        own = node.emit(relax.op.strided_slice(gates, [0], [number], [number + 1]))
        states = cell.step(weights, node.emit(relax.op.squeeze(own, [0])), states)
        shown.append(states[0])
    return shown, states


def _initial(node: Node, weights: Weights, place: int, index: int) -> Any:
    from tvm import relax

    if node.input(place) is not None:
        return weights.row(node.input(place), index)
    shape, dtype = type_of(node.required(0))
    hidden = type_of(weights.state)[0][0]
    return node.emit(relax.op.zeros(relax.ShapeExpr([shape[1], hidden]), dtype))


def _stacked(node: Node, values: Sequence[Any], axis: int) -> Any:
    from tvm import relax

    wide = [node.emit(relax.op.expand_dims(value, [axis])) for value in values]
    return wide[0] if len(wide) == 1 else node.emit(relax.op.concat(wide, axis=axis))


def _checked(node: Node, cell: Cell) -> int:
    """Number of steps.

    Raises:
        ValueError: Something is asked for that is not served.
    """
    n_steps = type_of(node.required(0))[0][0]
    if not isinstance(n_steps, int) or n_steps > MOST_STEPS:
        raise ValueError(f"the number of steps must be fixed and at most {MOST_STEPS}")
    if node.input(4) is not None:
        raise ValueError("sequence_lens is not served: give every sequence the same length")
    if any(value is not None for value in node.inputs[5 + cell.n_states :]):
        raise ValueError("peepholes are not served")
    if any(node.attrs.get(name) for name in ("layout", "clip", "input_forget")):
        raise ValueError("layout, clip and input_forget are not served")
    given = [one.decode() for one in node.attrs.get("activations", ())]
    if given and given != [*cell.activations] * (len(given) // len(cell.activations)):
        raise ValueError(f"activations {given} are not served, only {[*cell.activations]}")
    return n_steps
