"""A checked ONNX model to a Relax module, with our converters before the stock ones.

The stock importer ignores operator domains; here every node outside the default domain
is renamed to ``domain::Operator`` before the import, so that equal names in different
domains cannot be taken for each other.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from effcompile.errors import BadModel
from effcompile.frontend.converters.registry import Node, find_converter
from effcompile.frontend.operators import DEFAULT_DOMAINS, check_operators
from schedules import _tvm


def import_model(model: Any) -> Any:
    """Import a model as a Relax module with one function ``main``, weights as constants.

    Args:
        model: ``onnx.ModelProto`` from :func:`effcompile.frontend.folding.fold`; its operators
            are renamed in place.

    Raises:
        UnsupportedOperators: Some nodes have no converter.
        BadModel: A node cannot be converted with these inputs; names the node.
    """
    check_operators(model)
    _qualify(model.graph)
    opset = next(
        (entry.version for entry in model.opset_import if entry.domain in DEFAULT_DOMAINS), 1
    )
    importer = _importer_class()(shape_dict=None, dtype_dict="float32")
    with _quiet():
        try:
            return importer.from_onnx(model.graph, opset)
        except BadModel:
            raise
        except Exception as error:  # TVM raises many kinds, also from its C++ side
            raise BadModel(
                f"cannot import the ONNX graph: {_described(error)}. "
                "Simplify the graph, or export it again with another opset."
            ) from error


def _qualify(graph: Any) -> None:
    for node in graph.node:
        if node.domain not in DEFAULT_DOMAINS:
            node.op_type = f"{node.domain}::{node.op_type}"
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _qualify(attribute.g)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The stock importer prints and warns about things that are reported as errors here."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


@cache
def _importer_class() -> Any:
    _tvm.load()
    from tvm import relax
    from tvm.relax.frontend.onnx import onnx_frontend

    class Importer(onnx_frontend.ONNXGraphImporter):  # type: ignore[misc]
        """The stock importer, asked only for operators without a converter of ours."""

        def _check_for_unsupported_ops(self, graph: Any) -> None:
            """Done before, with domains and branches."""

        def _parse_array(self, tensor_proto: Any) -> Any:
            from effcompile.frontend.tensors import tensor_value

            return tensor_value(tensor_proto)

        def _convert_operator(
            self, op_name: str, inputs: Any, attrs: dict[str, Any], opset: int
        ) -> Any:
            domain, _, op_type = op_name.rpartition("::")
            custom = attrs["tvm_custom"]

            def stock() -> Any:
                return onnx_frontend.ONNXGraphImporter._convert_operator(
                    self, op_type, inputs, attrs, opset
                )

            convert = find_converter(domain, op_type)
            try:
                if convert is None:
                    return stock()
                node = Node(
                    name=custom["name"],
                    builder=self.bb,
                    inputs=list(inputs),
                    attrs=_decoded(attrs),
                    n_outputs=custom["num_outputs"],
                    opset=opset,
                    stock=stock,
                )
                result = convert(node)
                return self.bb.normalize(result) if isinstance(result, relax.Expr) else result
            except BadModel:
                raise
            except Exception as error:  # as in import_model: the node's name is known here
                raise BadModel(
                    f"cannot convert node {custom['name']} ({op_name}): {_described(error)}. "
                    f"Its inputs are {', '.join(map(_type_text, inputs)) or 'none'}. "
                    "Check the node's attributes and shapes against the operator's definition."
                ) from error

    return Importer


def _decoded(attrs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in attrs.items()
        if name != "tvm_custom"
    }


def _described(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1][:400] if lines else 'no message'}"


def _type_text(expression: Any) -> str:
    return "absent" if expression is None else str(getattr(expression, "ty", expression))[:80]
