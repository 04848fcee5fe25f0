"""Many MuJoCo simulations of one model, as arrays ``(slots, ...)``: two ways to step them.

``BatchSimulations`` steps them in C, all in one call. It cannot give contact forces: those
come from ``mj_rnePostConstraint``, which ``mj_step`` leaves out and Gymnasium adds.
``SeparateSimulations`` calls both for one simulation after the other. It costs a few
microseconds of Python per step, little against the 100 and more of the bodies that need it;
older versions of MuJoCo have nothing else.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import mujoco  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Simulations(Protocol):
    """``slots`` simulations. The arrays are live; those of ``derived`` are read-only.

    ``qpos`` is ``(slots, nq)``, ``qvel`` ``(slots, nv)``, ``derived[name]`` ``(slots, ...)``
    of the ``MjData`` field ``name``. As after ``mj_step``, derived fields describe the state
    before the last substep.
    """

    qpos: Floats
    qvel: Floats
    ctrl: Floats
    derived: Mapping[str, Floats]

    def reset(self, slot: int, qpos: Floats, qvel: Floats) -> None:
        """``mj_resetData``, the given state, ``mj_forward``."""
        ...

    def step(self, controls: NDArray[Any], slots: NDArray[np.int32]) -> dict[int, str]:
        """Advance ``slots``; ``controls`` are ``(all slots, nu)``. Returns MuJoCo's errors."""
        ...


def batch_exists() -> bool:
    """Whether the installed MuJoCo can step in batches (3.17 and later)."""
    return importlib.util.find_spec("mujoco.batch") is not None


class BatchSimulations:
    """``mujoco.batch.Batch`` on the calling thread; implements ``Simulations``."""

    def __init__(
        self, model: mujoco.MjModel, slots: int, frame_skip: int, derived: Sequence[str]
    ) -> None:
        from mujoco import batch

        self._batch, self._error = batch.Batch(model, slots, 1), batch.SimulationError
        self._frame_skip = frame_skip
        self._ids = np.arange(slots, dtype=np.int32)
        self.qpos: Floats = self._batch.bind("qpos")
        self.qvel: Floats = self._batch.bind("qvel")
        self.ctrl: Floats = self._batch.bind("ctrl")
        self.derived: Mapping[str, Floats] = {name: self._batch.bind(name) for name in derived}

    def reset(self, slot: int, qpos: Floats, qvel: Floats) -> None:
        """Start ``slot`` from the given state."""
        ids = self._ids[slot : slot + 1]
        self._batch.reset(ids, stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        self.qpos[slot] = qpos
        self.qvel[slot] = qvel
        self._batch.forward(ids)

    def step(self, controls: NDArray[Any], slots: NDArray[np.int32]) -> dict[int, str]:
        """Advance ``slots`` by one environment step."""
        self.ctrl[...] = controls
        try:
            self._batch.step(slots if len(slots) < len(self.ctrl) else None, self._frame_skip)
        except self._error as error:
            return {int(slot): self._batch.error(int(slot)) for slot in error.ids}
        return {}


class SeparateSimulations:
    """One ``MjData`` per slot, contact forces included; implements ``Simulations``."""

    def __init__(
        self, model: mujoco.MjModel, slots: int, frame_skip: int, derived: Sequence[str]
    ) -> None:
        self._model, self._frame_skip = model, frame_skip
        self._data = [mujoco.MjData(model) for _ in range(slots)]
        arrays = {name: self._array(name) for name in ("qpos", "qvel", "ctrl", *derived)}
        self.qpos, self.qvel, self.ctrl = (arrays[name] for name in ("qpos", "qvel", "ctrl"))
        self.derived: Mapping[str, Floats] = {name: arrays[name] for name in derived}
        copied = ("qpos", "qvel", *derived)
        # the views are made once: getting at a field costs as much as copying it
        self._copies = [
            [(arrays[name][slot], getattr(data, name)) for name in copied]
            for slot, data in enumerate(self._data)
        ]
        self._controls = [data.ctrl for data in self._data]

    def reset(self, slot: int, qpos: Floats, qvel: Floats) -> None:
        """Start ``slot`` from the given state."""
        data = self._data[slot]
        mujoco.mj_resetData(self._model, data)
        data.qpos[:] = qpos
        data.qvel[:] = qvel
        mujoco.mj_forward(self._model, data)
        self._copy(slot)

    def step(self, controls: NDArray[Any], slots: NDArray[np.int32]) -> dict[int, str]:
        """Advance ``slots`` by one environment step."""
        self.ctrl[...] = controls
        errors = {}
        for slot in slots.tolist():
            data = self._data[slot]
            self._controls[slot][:] = self.ctrl[slot]
            try:
                mujoco.mj_step(self._model, data, self._frame_skip)
                mujoco.mj_rnePostConstraint(self._model, data)
            except mujoco.FatalError as error:
                errors[slot] = str(error)
            self._copy(slot)
        return errors

    def _copy(self, slot: int) -> None:
        for target, source in self._copies[slot]:
            target[...] = source

    def _array(self, name: str) -> Floats:
        return np.zeros((len(self._data), *getattr(self._data[0], name).shape))
