"""The folder of one tuning run: where everything it needs and leaves lies.

```
runs/block/
  trials.sqlite   every trial, measurement and decision; the checkpoint
  models/         the checked ONNX files, one per entry point
  work/           libraries, references, logs of child processes; may be deleted at any time
```
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from effcompile.errors import UsageError


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths inside a run folder.

    Attributes:
        path: The folder itself.
    """

    path: Path

    @property
    def database_path(self) -> Path:
        """The SQLite file."""
        return self.path / "trials.sqlite"

    @property
    def models(self) -> Path:
        """Folder of the ONNX files."""
        return self.path / "models"

    @property
    def work(self) -> Path:
        """Folder of files that can be made again."""
        return self.path / "work"

    def create(self) -> None:
        """Make the folder and its parts.

        Raises:
            UsageError: The path is a file, or cannot be written.
        """
        try:
            for folder in (self.path, self.models, self.work):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"cannot create run folder {self.path}: {error.strerror}. "
                "Choose another folder with --out."
            ) from error

    @contextmanager
    def created(self) -> Iterator[None]:
        """Make the folder; a new one in which no run was started by the end is removed again.

        Raises:
            UsageError: See :meth:`create`.
        """
        is_new = not self.path.exists()
        self.create()
        try:
            yield
        finally:
            if is_new and not self.database_path.exists():
                shutil.rmtree(self.path, ignore_errors=True)

    def require(self) -> None:
        """Check that a run was started here.

        Raises:
            UsageError: There is no database in the folder.
        """
        if not self.database_path.is_file():
            raise UsageError(
                f"{self.path} is not a run folder: {self.database_path.name} is missing. "
                "Start one with: effcompile tune MODEL --out " + str(self.path)
            )

    def nothing_started(self) -> UsageError:
        """The error for a folder whose database holds no run."""
        return UsageError(
            f"{self.path} holds no run yet. Start one with: effcompile tune MODEL --out {self.path}"
        )

    def model_path(self, entry: str) -> Path:
        """Where the checked ONNX model of an entry point lies."""
        return self.models / f"{entry}.onnx"

    def model_paths(self) -> dict[str, Path]:
        """Entry-point name to ONNX file, by name.

        Raises:
            UsageError: There is no model in the folder.
        """
        paths = {path.stem: path for path in sorted(self.models.glob("*.onnx"))}
        if not paths:
            raise UsageError(
                f"{self.path} holds no model: {self.models} is empty. The command that tuned "
                f"there, given again, writes it anew: effcompile tune MODEL --out {self.path}"
            )
        return paths
