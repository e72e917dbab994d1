"""PyTorch module to checked ONNX.

Opset 23 is the target because it is the first one in which scaled dot-product
attention, RMS normalisation and rotary embedding are single nodes: exporting to an
older opset takes them apart, and a tuner that sees the pieces cannot give them one
kernel. Newer opsets add nothing that the importer reads.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from effcompile.errors import BadModel, UsageError

OPSET = 23


def export_module(
    module: Any,
    example_inputs: Sequence[Any],
    *,
    dynamic_shapes: Any = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> Any:
    """Trace a module in eval mode and return a checked ``onnx.ModelProto``.

    The module's training flag is put back afterwards.

    Args:
        module: A ``torch.nn.Module``.
        example_inputs: Positional inputs of one call.
        dynamic_shapes: As ``torch.export`` takes them; ``None`` makes every shape static.
        input_names: Names in the ONNX graph; by default those of ``forward``.
        output_names: Names in the ONNX graph.

    Raises:
        UsageError: ``module`` is not a ``torch.nn.Module``.
        BadModel: The module cannot be exported; the message holds the cause.
    """
    import torch

    if not isinstance(module, torch.nn.Module):
        raise UsageError(
            f"cannot export an object of type {type(module).__name__}: expected a torch.nn.Module."
        )
    # With gradients, attention takes another path while tracing than while decomposing, and
    # the two disagree about strides.
    with _eval_mode(module), _quiet_exporter(), _known_operators(), torch.no_grad():
        try:
            program = torch.onnx.export(
                module,
                tuple(example_inputs),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=dynamic_shapes,
                input_names=input_names,
                output_names=output_names,
                verbose=False,
            )
        except Exception as error:
            raise BadModel(
                f"cannot export {type(module).__name__} to ONNX: {_root_cause(error)} "
                "The module must be traceable by torch.export with the example inputs given."
            ) from error
    return _checked(program.model_proto, type(module).__name__)


@contextmanager
def _eval_mode(module: Any) -> Iterator[None]:
    training = {child for child in module.modules() if child.training}
    module.eval()
    try:
        yield
    finally:
        for child in training:
            child.training = True


@contextmanager
def _known_operators() -> Iterator[None]:
    """The exporter reads the source of all of its operators anew for every export: a second each.

    What it made of them is kept for the process. A release that keeps them elsewhere reads on.
    """
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        own = vars(ONNXRegistry)["from_torchlib"]
    except (ImportError, KeyError):
        yield
        return
    registry = _operators(ONNXRegistry)
    ONNXRegistry.from_torchlib = staticmethod(lambda **_: registry)
    try:
        yield
    finally:
        ONNXRegistry.from_torchlib = own


@cache
def _operators(registry: Any) -> Any:
    return registry.from_torchlib(opset_version=OPSET)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """The exporter warns about absent optional packages, and logs what it raises anyway."""
    logged = logging.getLogger("torch")
    level = logged.level
    # A failed trace logs pages, and prints the traced graph, before it raises the cause.
    logged.setLevel(logging.CRITICAL)
    children = [logging.getLogger(name) for name in _loud_loggers()]
    levels = [child.level for child in children]
    for child in children:
        child.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            # Deprecations inside torch's own exporter.
            warnings.simplefilter("ignore", FutureWarning)
            # Recurrent modules collect their weights anew while they are traced.
            warnings.filterwarnings("ignore", message="The tensor attributes .* were assigned")
            yield
    finally:
        logged.setLevel(level)
        for child, old in zip(children, levels, strict=True):
            child.setLevel(old)


def _loud_loggers() -> list[str]:
    """Torch's loggers with a level of their own, which their parent's does not reach."""
    known = logging.Logger.manager.loggerDict.items()
    return [
        name
        for name, logger in known
        if name.startswith("torch.") and isinstance(logger, logging.Logger) and logger.level
    ]


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:4])[:600]}"


def _checked(model: Any, name: str) -> Any:
    import onnx

    from effcompile.frontend.light import without_weights

    try:
        onnx.checker.check_model(without_weights(model))
    except onnx.checker.ValidationError as error:
        raise BadModel(
            f"the ONNX graph exported from {name} does not pass the ONNX checker: {error}"
        ) from error
    return model


def custom_op(
    name: str,
    inputs: Sequence[Any],
    *,
    eager: Callable[..., Any],
    attrs: Mapping[str, Any] | None = None,
) -> Any:
    """One node ``effcompile::name`` in an export, the eager computation everywhere else.

    Call it inside ``forward``. Shape and dtype of the node are those of the eager result.

    Args:
        name: Operator name inside the domain ``effcompile``.
        inputs: Tensors the node reads.
        eager: Called with the inputs; defines the result outside an export.
        attrs: Attributes of the node.
    """
    import torch

    result = eager(*inputs)
    if not torch.onnx.is_in_onnx_export():
        return result
    return torch.onnx.ops.symbolic(
        f"effcompile::{name}",
        tuple(inputs),
        attrs=dict(attrs or {}),
        dtype=result.dtype,
        shape=result.shape,
        version=1,
    )
