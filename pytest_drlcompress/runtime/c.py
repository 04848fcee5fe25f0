"""Generated C, compiled here and called in this process: what is judged is what is flashed."""

import ctypes
import platform
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.codegen.compile import compile_library
from pytest_drlcompress.codegen.emit import generate
from pytest_drlcompress.codegen.layouts import Choice
from pytest_drlcompress.codegen.parse import parse_program
from pytest_drlcompress.runtime.onnxruntime import OnnxController

_CHECKED = 64


def layout_here() -> Choice:
    """What this processor runs fastest."""
    return "vector" if platform.machine() in ("x86_64", "AMD64") else "fast"


@dataclass(frozen=True)
class CRuntime:
    """C99 by the system's compiler; implements ``Runtime``."""

    name: str = "c"
    layout: Choice = field(default_factory=layout_here)

    def load(self, model: bytes) -> "CController":
        """The policy as a shared library.

        Raises:
            CodeGenerationError: it cannot be written as C, or there is no compiler.
        """
        return CController(model, self.layout)

    def acts_like(self, model: bytes) -> str:
        """``"onnx"`` where the actions have ONNX Runtime's bits: the episodes are the same."""
        if parse_program(model).exact and _same_bits(CController(model, self.layout), model):
            return "onnx"
        return self.name


class CController:
    """An artifact as compiled C; implements ``Controller``.

    The library is called without arguments, on buffers of its own: that costs a third of a call
    with two pointers. ``exact`` says that the actions have ONNX Runtime's bits.
    """

    device = "cpu"
    batch_invariant = True

    def __init__(self, model: bytes, layout: Choice | None = None) -> None:
        program = parse_program(model)
        layout = layout or layout_here()
        self.exact = program.exact
        self.source = generate(program, layout=layout, library=True)
        self.observation_shape = program.observation_shape
        self.observation_dtype = program.observation.dtype
        self.action_shape = program.action_shape
        with tempfile.TemporaryDirectory() as folder:
            # PyDLL keeps the interpreter's lock, which is less work than letting it go and the
            # call is over in microseconds
            library = ctypes.PyDLL(str(compile_library(self.source, Path(folder))))
        self._library = library
        action_type = ctypes.c_int32 if program.chooses else ctypes.c_float
        taken = ctypes.c_uint8 if self.observation_dtype == np.uint8 else ctypes.c_float
        size = max(int(np.prod(self.action_shape)), 1)
        self._observation_row = _buffer(
            library.drlc_observation, taken, program.observation.size
        ).reshape(self.observation_shape)
        self._action_row = _buffer(library.drlc_action, action_type, size).reshape(
            self.action_shape
        )
        self._run = library.drlc_run
        self._run.restype = None
        library.drlc_repeat.restype = None
        library.drlc_repeat.argtypes = (ctypes.c_int32,)
        library.drlc_batch.restype = None
        library.drlc_batch.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Actions for a batch, one row after the other."""
        batch = np.ascontiguousarray(observations, self.observation_dtype)
        actions = np.empty((len(batch), *self.action_shape), self._action_row.dtype)
        self._library.drlc_batch(batch.ctypes.data, actions.ctypes.data, len(batch))
        return actions

    def act_one(self, observation: NDArray[Any]) -> NDArray[Any]:
        """The action for one observation; overwritten by the next call."""
        self._observation_row[...] = observation
        self._run()
        return self._action_row

    def run_network(self) -> None:
        """Run the network alone, on the observation that ``act_one`` saw last."""
        self._run()

    def repeat_network(self, count: int) -> None:
        """``run_network`` in a loop inside C."""
        self._library.drlc_repeat(count)


def _same_bits(controller: CController, model: bytes) -> bool:
    """Whether ONNX Runtime agrees on random observations, as it must if ``exact`` is right."""
    random = np.random.default_rng(0)
    shape = (_CHECKED, *controller.observation_shape)
    observations = (
        random.integers(0, 256, shape, np.uint8)
        if controller.observation_dtype == np.uint8
        else (random.standard_normal(shape) * 3).astype(np.float32)
    )
    return bool((controller.act(observations) == OnnxController(model).act(observations)).all())


def _buffer(function: Any, element: Any, size: int) -> NDArray[Any]:
    function.restype = ctypes.POINTER(element)
    return np.ctypeslib.as_array(function(), shape=(size,))
