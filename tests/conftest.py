"""What every test shares."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from effcompile.errors import CompilerUnavailable


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Tests that compile for CUDA are skipped where nothing can: that is no fault of the code."""
    try:
        return (yield)
    except CompilerUnavailable as reason:
        pytest.skip(f"no CUDA compiler: {reason}")
