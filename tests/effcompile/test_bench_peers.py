"""Peers from packages that need not be here: what they get is what the case holds."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from effcompile.bench.kernels import (
    decode_cases,
    flashinfer_peer,
    optional_peer,
    quantised_peers,
)
from effcompile.bench.kernels.case import chosen_cases
from effcompile.bench.kernels.contenders import contenders
from effcompile.errors import PeerNotInstalled

DISTRIBUTIONS = {
    "gemlite": "gemlite",
    "Marlin": "vllm",
    "FlashInfer": "flashinfer-python",
    "FlashInfer, tensor cores": "flashinfer-python",
}
CASES = {
    "w4-g128-4096x4096-rows1-bfloat16": ["gemlite", "Marlin"],
    "w8-g128-4096x4096-rows1-bfloat16": ["gemlite", "Marlin"],
    "decode-8x64q8kv-1q4096k-128-bfloat16": ["FlashInfer", "FlashInfer, tensor cores"],
    "paged-decode-8x32q8kv-4096k-128-bfloat16-page16": ["FlashInfer", "FlashInfer, tensor cores"],
}


def _weights(bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(bits)
    codes = torch.randint(0, 2**bits, (128, 2, 32), dtype=torch.uint8, generator=generator)
    return codes, torch.rand((128, 2), generator=generator).bfloat16()


@pytest.mark.parametrize("name", CASES)
def test_a_peer_that_is_not_installed_says_how_to_install_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optional_peer, "find_spec", lambda package: None)
    (case,) = chosen_cases([], [name])
    lengths = torch.tensor([1])
    on_cpu = replace(
        case,
        reference=lambda inputs: [inputs[0]],
        peers={peer: case.peers[peer] for peer in CASES[name]},
    )
    _, *rows = contenders(on_cpu, "no artifact", [[torch.ones(1, 1, 16, 8)] * 4 + [lengths]])
    assert {row.name: row.error for row in rows} == {
        peer: f"not installed: pip install {DISTRIBUTIONS[peer]}" for peer in CASES[name]
    }


def test_an_installed_package_is_imported() -> None:
    assert optional_peer.installed("json", "json").dumps(1) == "1"
    with pytest.raises(PeerNotInstalled, match="pip install no-such-peer"):
        optional_peer.installed("no_such_peer", "no-such-peer")


@pytest.mark.parametrize("bits", [4, 8])
def test_words_of_marlin_hold_every_code(bits: int) -> None:
    codes, _ = _weights(bits)
    words = quantised_peers.packed_over_depth(codes, bits)
    per_word = 32 // bits
    assert (words.dtype, words.shape) == (torch.int32, (64 // per_word, 128))
    parts = [words >> bits * place & 2**bits - 1 for place in range(per_word)]
    assert torch.equal(torch.stack(parts, 1).flatten(0, 1).T, codes.flatten(1).int())


def test_scales_of_marlin_are_in_the_order_of_its_threads() -> None:
    _, scales = _weights(4)
    ordered = quantised_peers.marlin_scales(scales)
    assert ordered.is_contiguous()
    for column in range(128):
        block, inside = divmod(column, 64)
        place = 64 * block + inside % 8 * 8 + inside // 8
        assert torch.equal(ordered[:, place], scales[column])


def test_types_of_marlin_have_the_numbers_of_vllm() -> None:
    assert quantised_peers.marlin_type(4) == 1125899907892224
    assert quantised_peers.marlin_type(8) == 1125899923621888


def test_marlin_refuses_other_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised_peers, "_marlin_operators", object)
    with pytest.raises(NotImplementedError, match="no 3-bit integers"):
        quantised_peers.marlin(3, lambda: _weights(3))


def _pretend(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None, is_package=True)
    module.__spec__.submodule_search_locations = ["/nowhere"]
    module.__dict__.update(members)
    monkeypatch.setitem(sys.modules, name, module)


class _Layer:
    """Multiplies by what gemlite documents: codes less zero, times scales."""

    def __init__(self, bits: int, *, group_size: int, in_features: int, **rest: Any) -> None:
        self.group, self.depth = group_size, in_features
        assert bits in {4, 8}
        assert rest == {"out_features": 128, "input_dtype": "BF16", "output_dtype": "BF16"}

    def pack(self, codes: Any, scales: Any, *, zeros: int, bias: None) -> None:
        grouped = codes.double().unflatten(1, (-1, self.group)) - zeros
        self.matrix = (grouped * scales.double()[..., None]).flatten(1)

    def forward(self, x: Any) -> Any:
        return x.double() @ self.matrix.T


@pytest.mark.parametrize("bits", [4, 8])
def test_gemlite_gets_the_integers_and_scales(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = SimpleNamespace(TORCH_TO_DTYPE={torch.bfloat16: "BF16"})
    _pretend(monkeypatch, "gemlite", core=kinds, GemLiteLinear=_Layer)
    codes, scales = _weights(bits)
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(1))
    found = quantised_peers.gemlite(bits, lambda: (codes, scales))(x)
    matrix = (codes.double() - 2 ** (bits - 1)) * scales.double()[..., None]
    assert torch.equal(found, x.double() @ matrix.flatten(1).T)


class _Wrapper:
    """Attends as FlashInfer documents its table: starts, pages, keys in the last page."""

    def __init__(self, workspace: Any, *, kv_layout: str, use_tensor_cores: bool) -> None:
        assert (kv_layout, use_tensor_cores) == ("HND", True)

    def plan(self, starts: Any, pages: Any, last: Any, *sizes: int, **kinds: Any) -> None:
        assert {one.dtype for one in (starts, pages, last)} == {torch.int32}
        self.starts, self.pages, self.last = starts, pages, last
        self.heads, self.kv_heads, self.width, self.page = sizes
        assert kinds == {"q_data_type": torch.float32, "kv_data_type": torch.float32}

    def run(self, query: Any, cache: Any) -> Any:
        found = []
        for one, (first, end) in enumerate(zip(self.starts[:-1], self.starts[1:], strict=True)):
            n_keys = int(end - first - 1) * self.page + int(self.last[one])
            mine = self.pages[first:end].long()
            key, value = (part[mine].transpose(0, 1).flatten(1, 2)[:, :n_keys] for part in cache)
            rows = query[one].reshape(self.kv_heads, -1, self.width)
            scores = rows @ key.transpose(1, 2) * self.width**-0.5
            found.append((torch.softmax(scores, -1) @ value).reshape(self.heads, self.width))
        return torch.stack(found)


def test_flashinfer_gets_the_pages_and_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, "flashinfer", BatchDecodeWithPagedKVCacheWrapper=_Wrapper)
    monkeypatch.setattr(flashinfer_peer, "_workspace", lambda: None)
    generator = torch.Generator().manual_seed(3)
    query, key, value = (
        torch.randn(shape, generator=generator)
        for shape in [(2, 4, 1, 16), (8, 2, 8, 16), (8, 2, 8, 16)]
    )
    table = torch.randperm(8, generator=generator).reshape(2, 4)
    lengths = [32, 19]
    launch = flashinfer_peer.paged_decode(query, (key, value), table, lengths, tensor_cores=True)
    for one, length in enumerate(lengths):
        rows = [part[table[one]].transpose(0, 1).flatten(1, 2)[:, :length] for part in (key, value)]
        expected = torch.nn.functional.scaled_dot_product_attention(
            query[one], *rows, enable_gqa=True
        )
        assert torch.allclose(launch()[one], expected, atol=1e-5)


def test_flashinfer_reads_a_cache_in_a_row_as_pages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _pretend(monkeypatch, "flashinfer", BatchDecodeWithPagedKVCacheWrapper=_Wrapper)
    monkeypatch.setattr(flashinfer_peer, "_workspace", lambda: None)
    shape = decode_cases.DecodeShape(3, 4, 2, 1, 40, 16, "float32", "lengths")
    generator = torch.Generator().manual_seed(4)
    made = [torch.randn(shape.shapes[name], generator=generator) for name in "qkv"]
    found = decode_cases._flashinfer(shape, True)([*made, torch.tensor(shape.lengths)])()
    for one, length in enumerate(shape.lengths):
        short = [part[one, :, :length] for part in made[1:]]
        expected = torch.nn.functional.scaled_dot_product_attention(
            made[0][one], *short, enable_gqa=True
        )
        assert torch.allclose(found[one], expected, atol=1e-5)


def test_flashinfer_says_that_its_decode_has_no_mask() -> None:
    shape = decode_cases.DecodeShape(1, 4, 2, 8, 32, 16, "float16", "tree")
    with pytest.raises(NotImplementedError, match="one query and no mask"):
        decode_cases._flashinfer(shape, False)([])


def test_pages_of_a_sequence_cover_its_keys() -> None:
    assert flashinfer_peer.used_pages([64, 65, 1], 64) == ([1, 2, 1], [64, 1, 1])
