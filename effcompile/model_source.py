"""Python files that build PyTorch modules: ``file.py:function``."""

from __future__ import annotations

import importlib.util
import inspect
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from effcompile.errors import BadModel, UsageError


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
