"""PyTorch to ONNX: what is kept, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from effcompile import export, onnx_files
from effcompile.errors import BadModel, UsageError
from effcompile.frontend.checking import load_model
from effcompile.frontend.dimensions import declared_shape
from effcompile.model_source import load_builder

EXAMPLES = Path(__file__).parents[2] / "examples"


class Scores(nn.Module):
    """Dropout, which training mode would make random, and a custom operator."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return export.custom_op(
            "Softmax",
            [self.dropout(x)],
            eager=lambda value: torch.softmax(0.5 * value, dim=-1),
            attrs={"scale": 0.5},
        )


class RelativeAttention(nn.Module):
    """Attention with a learned bias, which takes another path with gradients than without."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(64, 64), nn.Linear(64, 64)
        self.bias = nn.Embedding(31, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key = (part(x).view(1, 16, 4, 16).transpose(1, 2) for part in (self.query, self.key))
        places = torch.arange(16)[:, None] - torch.arange(16)[None] + 15
        bias = self.bias(places).permute(2, 0, 1).unsqueeze(0)
        result = nn.functional.scaled_dot_product_attention(query, key, key, attn_mask=bias)
        return result.transpose(1, 2).reshape(1, 16, -1)


def test_attention_with_a_learned_bias_is_one_node() -> None:
    module, x = RelativeAttention(), torch.randn(1, 16, 64)
    model = export.export_module(module, (x,))
    assert "Attention" in [node.op_type for node in model.graph.node]
    assert module.training and torch.is_grad_enabled()


def test_builder_is_loaded_by_reference() -> None:
    source = load_builder(f"{EXAMPLES / 'conv_net.py'}:build")
    assert isinstance(source.module, nn.Module)
    assert source.example_inputs[0].shape == (1, 3, 32, 32)
    assert source.dynamic_shapes is None


@pytest.mark.parametrize(
    ("body", "reference", "error", "match"),
    [
        ("", "model.py", UsageError, "expected file.py:function"),
        ("", "absent.py:build", UsageError, "no such file: .*absent.py"),
        ("def make(): ...", "model.py:build", UsageError, r"no function build.*make"),
        ("def build(): return 3", "model.py:build", UsageError, "returned int, expected"),
        ("def build(): 1 / 0", "model.py:build", BadModel, "raised ZeroDivisionError"),
        ("import nothing_here", "model.py:build", BadModel, "ModuleNotFoundError"),
    ],
)
def test_bad_references_say_what_was_expected(
    tmp_path: Path, body: str, reference: str, error: type[Exception], match: str
) -> None:
    (tmp_path / "model.py").write_text(body)
    with pytest.raises(error, match=match):
        load_builder(f"{tmp_path}/{reference}")


def test_only_modules_are_exported() -> None:
    with pytest.raises(UsageError, match=r"expected a torch\.nn\.Module"):
        export.export_module(torch.relu, [torch.zeros(1)])


def test_export_failure_holds_the_cause() -> None:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if x.sum() > 0 else x - 1

    with pytest.raises(BadModel, match=r"cannot export Branching to ONNX: .*data-dependent"):
        export.export_module(Branching(), [torch.ones(2)])


def test_export_uses_eval_mode_and_puts_training_back() -> None:
    module = Scores().train()
    model = export.export_module(module, [torch.randn(2, 4)])
    assert module.training and module.dropout.training
    assert "Dropout" not in {node.op_type for node in model.graph.node}


def test_custom_operators_are_one_node_and_eager_elsewhere() -> None:
    x = torch.randn(2, 4)
    module = Scores().eval()
    torch.testing.assert_close(module(x), torch.softmax(0.5 * x, dim=-1))
    nodes = export.export_module(module, [x]).graph.node
    assert [(node.domain, node.op_type) for node in nodes] == [("effcompile", "Softmax")]


def test_attention_stays_one_node() -> None:
    source = load_builder(f"{EXAMPLES / 'transformer_block.py'}:build")
    model = export.export_module(source.module, source.example_inputs)
    assert [node.op_type for node in model.graph.node].count("Attention") == 1
    assert model.opset_import[0].version == export.OPSET


def test_dynamic_dimensions_keep_their_names() -> None:
    tokens = torch.export.Dim("tokens", min=2, max=64)
    model = export.export_module(
        nn.Linear(4, 3), [torch.randn(5, 4)], dynamic_shapes=({0: tokens},), input_names=["x"]
    )
    assert declared_shape(model.graph.input[0]) == ("tokens", 4)


def test_written_models_are_whole_and_leave_nothing_else(tmp_path: Path) -> None:
    model = export.export_module(nn.Linear(4, 3), [torch.randn(5, 4)])
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    onnx_files.write_onnx(model, path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    onnx.checker.check_model(str(path))
    with pytest.raises(UsageError, match=r"the folder .* does not exist"):
        onnx_files.write_onnx(model, tmp_path / "absent" / "model.onnx")


def test_large_models_keep_weights_in_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = nn.Linear(64, 64)
    x = torch.randn(2, 64)
    model = export.export_module(module, [x])
    monkeypatch.setattr(onnx_files, "MAX_INLINE_BYTES", 1024)
    onnx_files.write_onnx(model, tmp_path / "model.onnx")
    monkeypatch.undo()
    assert {file.name for file in tmp_path.iterdir()} == {"model.onnx", "model.onnx.data"}
    assert (tmp_path / "model.onnx").stat().st_size < 8192
    loaded: Any = load_model(tmp_path / "model.onnx")
    feeds = {loaded.graph.input[0].name: x.numpy()}
    found = ReferenceEvaluator(loaded).run(None, feeds)[0]
    np.testing.assert_allclose(found, module(x).detach().numpy(), rtol=1e-5, atol=1e-5)


def test_the_exporter_reads_its_operators_once_and_is_left_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    read = []
    own = vars(ONNXRegistry)["from_torchlib"].__func__

    def from_torchlib(registry: Any, **options: Any) -> Any:
        read.append(options)
        return own(registry, **options)

    patched = classmethod(from_torchlib)
    monkeypatch.setattr(ONNXRegistry, "from_torchlib", patched)
    export._operators.cache_clear()
    first, second = (export.export_module(nn.Linear(4, 4), (torch.ones(1, 4),)) for _ in range(2))
    assert read == [{"opset_version": export.OPSET}]
    assert vars(ONNXRegistry)["from_torchlib"] is patched
    kinds = [node.op_type for node in first.graph.node]
    assert [node.op_type for node in second.graph.node] == kinds != []
