"""Load an artifact and run it: no compiler, no ``import tvm``.

    module = load("block.effc")
    y = module(x)                            # NumPy in, NumPy out
    y = module(x=torch_tensor)               # torch in, torch out
    logits, cache = module.prefill(tokens)   # entry points by name

Measured on 2 CPU cores, in a fresh process: loading adds 0.15 s and 30 MB to NumPy's
own (parameters are mapped, not read into memory of their own), and torch is never
imported unless the caller has done so.

Threads: calls of one module take turns (a lock), since entry points share the state of
one virtual machine; load the file again for calls side by side. On CUDA a call returns
when the work is queued: on torch's current stream for torch tensors, otherwise results
are waited for. Keep to one stream per module: its memory pool does not know streams.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from effcompile.artifact import ArtifactReader
from effcompile.device_check import check_architecture, resolve_device
from effcompile.errors import BadArtifact, BadInput
from effcompile.input_check import bind_arguments, check_inputs
from effcompile.manifest import Manifest
from effcompile.output_files import writing
from effcompile.runtime_libraries import CPU_DEVICE_TYPE, load_runtime, runtime_function
from effcompile.signature import EntryPoint
from effcompile.tensors import borrow_numpy, copied, facts_of, to_numpy, to_tensor, to_torch

_POOLED_ALLOCATOR = 2


def load(path: str | Path, device: str = "auto", *, verify: bool = True) -> Module:
    """Open an artifact on a device.

    Args:
        path: An ``.effc`` file. It holds native code: load only files you trust.
        device: ``auto`` (what it was compiled for), ``cpu``, ``cuda`` or ``cuda:1``.
        verify: Compare parameters with their checksums, which reads them once. The
            library is always compared.

    Raises:
        BadArtifact: The file is damaged, foreign, or for another architecture.
        DeviceUnavailable: It needs a device or a driver that is not here.
        OutputUnwritable: The temporary folder does not take the library.
        BadPin: The installed runtime does not work.
    """
    with ArtifactReader(Path(path)) as reader:
        manifest = reader.manifest
        load_runtime()
        name = resolve_device(manifest.target, device, artifact=reader.path)
        check_architecture(manifest.target, name, artifact=reader.path)
        machine = _start_machine(reader, name)
        parameters = {}
        for stored in manifest.parameters:
            mapped = borrow_numpy(reader.parameter(stored, verify=verify))
            parameters[stored.parameter_id] = mapped if name == "cpu" else copied(mapped, name)
    return Module(manifest, machine, parameters, name)


class Function:
    """One entry point; call it with arrays, positional or by name."""

    def __init__(self, module: Module, entry: EntryPoint) -> None:
        """Made by :meth:`Module.function`."""
        self.entry = entry
        self._module = module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it: a single output comes back bare, several as a tuple.

        Raises:
            BadInput: Names, shapes or dtypes do not fit.
        """
        outputs = self._module._run(self.entry, bind_arguments(self.entry, args, kwargs))
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def named(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run it; outputs by the names of the signature.

        Raises:
            BadInput: Names, shapes or dtypes do not fit.
        """
        outputs = self._module._run(self.entry, bind_arguments(self.entry, args, kwargs))
        return {spec.name: value for spec, value in zip(self.entry.outputs, outputs, strict=True)}


class Module:
    """A loaded artifact."""

    def __init__(
        self, manifest: Manifest, machine: Any, parameters: Mapping[str, Any], device: str
    ) -> None:
        """Made by :func:`load`."""
        self.manifest = manifest
        self.device = device
        self._entries = {entry.name: entry for entry in manifest.entries}
        self._machine = machine
        self._parameters = parameters
        self._lock = threading.Lock()

    @property
    def signature(self) -> tuple[EntryPoint, ...]:
        """Entry points with names, shapes and dtypes of inputs and outputs."""
        return self.manifest.entries

    def function(self, name: str) -> Function:
        """An entry point by name.

        Raises:
            BadInput: There is none of that name.
        """
        if name not in self._entries:
            raise BadInput(
                f"the module has no entry point {name!r}, expected one of: "
                f"{', '.join(self._entries)}."
            )
        return Function(self, self._entries[name])

    def __getattr__(self, name: str) -> Function:
        if name in self.__dict__.get("_entries", {}):
            return self.function(name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run ``main``, or the only entry point there is.

        Raises:
            BadInput: Names, shapes or dtypes do not fit, or several entry points could be meant.
        """
        if len(self._entries) > 1 and "main" not in self._entries:
            raise BadInput(
                f"the module has several entry points: {', '.join(self._entries)}. "
                f"Call one by name, for example module.{next(iter(self._entries))}(...)."
            )
        name = "main" if "main" in self._entries else next(iter(self._entries))
        return self.function(name)(*args, **kwargs)

    def device_call(self, entry: str, inputs: Sequence[Any]) -> Callable[[], None]:
        """One launch as a function without arguments, for clocks and meters.

        Inputs are checked and moved to the device now. The function queues the work and
        drops the outputs; it takes no lock, so call it from one thread.

        Args:
            entry: Name of the entry point.
            inputs: Arrays or tensors, in order.

        Raises:
            BadInput: Names, shapes or dtypes do not fit.
        """
        specification = self.function(entry).entry
        values = bind_arguments(specification, inputs, {})
        check_inputs(specification, values)
        arguments = self._arguments(specification, values)
        run = self._machine[entry]

        def launch() -> None:
            run(*arguments)

        return launch

    def synchronise(self) -> None:
        """Wait until everything queued on the device has finished."""
        if self.device == "cpu":
            return
        ffi = load_runtime()
        device = ffi.device(self.device)
        runtime_function("Device_StreamSync")(device, ffi.get_raw_stream(device))

    def _arguments(self, entry: EntryPoint, values: Sequence[Any]) -> list[Any]:
        tensors = [to_tensor(value, self.device) for value in values]
        return tensors + [self._parameters[name] for name in entry.parameters]

    def _run(self, entry: EntryPoint, values: Sequence[Any]) -> list[Any]:
        check_inputs(entry, values)
        kinds = [facts_of(value) for value in values]
        self._check_places(entry, kinds)
        with self._lock, self._stream_of(values):
            arguments = self._arguments(entry, values)
            outputs = _flattened(self._machine[entry.name](*arguments))
            _check_count(entry, outputs)
            outputs = _unshared(outputs, arguments, self.device)
            kind = kinds[0].kind if kinds else "numpy"
            if kind == "torch":
                return [to_torch(output, kinds[0].device) for output in outputs]
            if kind == "tensor":
                return outputs
            self.synchronise()
            return [to_numpy(output) for output in outputs]

    def _check_places(self, entry: EntryPoint, kinds: Sequence[Any]) -> None:
        for spec, facts in zip(entry.inputs, kinds, strict=True):
            if facts.device not in ("cpu", self.device):
                raise BadInput(
                    f"cannot call {entry.name}: input {spec.name} is on {facts.device}, the module "
                    f"on {self.device}. Move the input, or load the module with "
                    f"device={facts.device!r}."
                )

    @contextmanager
    def _stream_of(self, values: Sequence[Any]) -> Iterator[None]:
        """Queue behind the torch work that produced the inputs."""
        stream: Any = nullcontext()
        if self.device != "cpu":
            on_device = [value for value in values if getattr(value, "is_cuda", False)]
            if on_device:
                import torch

                ffi = load_runtime()
                current = torch.cuda.current_stream(on_device[0].device).cuda_stream
                stream = ffi.use_raw_stream(ffi.device(self.device), current)
        with stream:
            yield


def _start_machine(reader: ArtifactReader, device: str) -> Any:
    """The virtual machine of the library, ready to call."""
    ffi = load_runtime()
    payload = reader.library_bytes()
    with tempfile.TemporaryDirectory(prefix="effcompile-") as folder:
        # The mapping outlives the file's name.
        library = Path(folder) / "module.so"
        with writing(library):
            library.write_bytes(payload)
        try:
            machine = ffi.load_module(str(library), keep_module_alive=False)["vm_load_executable"]()
        except (OSError, RuntimeError, AttributeError) as error:
            raise BadArtifact(
                f"cannot use artifact {reader.path}: its library does not load on this machine: "
                f"{str(error).splitlines()[0]}. Build the artifact again here, or on a machine "
                "like this one."
            ) from error
    place = ffi.device(device)
    kind, index = place.dlpack_device_type(), place.index
    host = () if kind == CPU_DEVICE_TYPE else (CPU_DEVICE_TYPE, 0, _POOLED_ALLOCATOR)
    machine["vm_initialization"](kind, index, _POOLED_ALLOCATOR, *host)
    return machine


def _flattened(result: Any) -> list[Any]:
    if isinstance(result, load_runtime().Tensor):
        return [result]
    return [tensor for part in result for tensor in _flattened(part)]


def _check_count(entry: EntryPoint, outputs: Sequence[Any]) -> None:
    if len(outputs) != len(entry.outputs):
        raise BadArtifact(
            f"entry point {entry.name} returned {len(outputs)} outputs, its signature names "
            f"{len(entry.outputs)}. Build the artifact again."
        )


def _unshared(outputs: Sequence[Any], arguments: Sequence[Any], device: str) -> list[Any]:
    """Outputs that own their memory, so that writing to one changes nothing else."""
    taken = {argument.data_ptr() for argument in arguments}
    own = []
    for output in outputs:
        shared = output.data_ptr() in taken
        own.append(copied(output, device) if shared else output)
        taken.add(output.data_ptr())
    return own
