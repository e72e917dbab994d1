"""PyTorch module to checked ONNX.

Opset 23 is the target because it is the first one in which scaled dot-product
attention, RMS normalisation and rotary embedding are single nodes: exporting to an
older opset takes them apart, and a tuner that sees the pieces cannot give them one
kernel. Newer opsets add nothing that the importer reads.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import io
import logging
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from effcompile.errors import BadModel, UsageError
from effcompile.output_files import check_output, writing

OPSET = 23
# Protobuf cannot serialise 2 GiB or more; names, shapes and nodes need the rest.
MAX_INLINE_BYTES = 2**31 - 2**27

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """What a builder function returns.

    Attributes:
        module: A ``torch.nn.Module``.
        example_inputs: Positional inputs that one call of the module accepts.
        dynamic_shapes: As ``torch.export`` takes them; ``None`` makes every shape static.
    """

    module: Any
    example_inputs: tuple[Any, ...]
    dynamic_shapes: Any = None


def load_builder(reference: str) -> ModelSource:
    """Call the builder named by ``file.py:function``.

    The function takes no arguments and returns ``(module, example_inputs)`` or
    ``(module, example_inputs, dynamic_shapes)``.

    Raises:
        UsageError: The reference is malformed, the file or the function does not exist,
            or it returns something else.
        BadModel: The file or the function raised.
    """
    path_text, colon, name = reference.rpartition(":")
    if not colon or not path_text or not name.isidentifier():
        raise UsageError(
            f"cannot read the model source {reference!r}: expected file.py:function, "
            "for example examples/transformer_block.py:build."
        )
    path = Path(path_text)
    if not path.is_file():
        raise UsageError(f"no such file: {path}. Expected a Python file with a function {name}().")
    namespace = _execute(path)
    builder = getattr(namespace, name, None)
    if not callable(builder):
        raise UsageError(f"{path} has no function {name}(). {_functions_hint(namespace)}")
    try:
        returned = builder()
    except (Exception, SystemExit) as error:
        raise BadModel(
            f"{reference} raised {type(error).__name__}: {error}. "
            "Run the function by itself to see the traceback."
        ) from error
    return _source_of(returned, reference)


def _execute(path: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location(f"_model_source_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise UsageError(f"{path} is not a Python file: expected a name ending in .py.")
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise BadModel(
            f"importing {path} raised {type(error).__name__}: {error}. "
            "Make the file importable by itself first."
        ) from error
    return module


def _functions_hint(namespace: ModuleType) -> str:
    public = [
        name
        for name, value in vars(namespace).items()
        if inspect.isfunction(value) and not name.startswith("_")
    ]
    return f"Functions found: {', '.join(sorted(public)) or 'none'}."


def _source_of(returned: Any, reference: str) -> ModelSource:
    if isinstance(returned, ModelSource):
        return returned
    if not isinstance(returned, tuple) or len(returned) not in (2, 3):
        raise UsageError(
            f"{reference} returned {type(returned).__name__}, expected (module, example_inputs) "
            "or (module, example_inputs, dynamic_shapes)."
        )
    inputs = returned[1]
    return ModelSource(
        module=returned[0],
        example_inputs=tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,),
        dynamic_shapes=returned[2] if len(returned) == 3 else None,
    )


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
    with _eval_mode(module), _quiet_exporter(), torch.no_grad():
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


def payload_bytes(model: Any) -> int:
    """Bytes of the initialisers held inside the model, names apart."""
    return sum(_tensor_bytes(tensor) for tensor in model.graph.initializer)


def _tensor_bytes(tensor: Any) -> int:
    import onnx

    if tensor.data_type == onnx.TensorProto.STRING:
        return int(tensor.ByteSize())
    # Asking the message itself would serialise it.
    n_elements = math.prod(tensor.dims)
    return int(n_elements * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def write_onnx(model: Any, path: str | Path) -> None:
    """Write a model so that readers see the old file or the whole new one.

    Models above the 2 GiB limit of the format keep their initialisers in a file of
    the same name with ``.data`` appended.

    Raises:
        UsageError: The folder does not exist, or the path is one.
        OutputUnwritable: No space or no right to write.
    """
    path = Path(path)
    check_output(path)
    write = _write_inline if payload_bytes(model) < MAX_INLINE_BYTES else _write_external
    with (
        writing(path),
        tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder,
    ):
        for written in write(model, Path(folder) / path.name):
            os.replace(written, path.parent / written.name)


def _write_inline(model: Any, path: Path) -> list[Path]:
    with path.open("wb") as file:
        file.write(model.SerializeToString())
        _sync(file)
    return [path]


def _write_external(model: Any, path: Path) -> list[Path]:
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    data = path.with_name(f"{path.name}.data")
    onnx.save_model(copy, str(path), save_as_external_data=True, location=data.name)
    for written in (data, path):
        with written.open("rb") as file:
            _sync(file)
    # The data must be in place before the file that refers to it.
    return [data, path]


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


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
