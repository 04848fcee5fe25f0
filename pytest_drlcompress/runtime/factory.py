"""The only place that names a runtime."""

from pytest_drlcompress.runtime.controller import Runtime

RUNTIMES = ("onnx", "c")


def make_runtime(name: str = "onnx") -> Runtime:
    """The runtime called ``name``; it is imported here.

    Raises:
        ValueError: there is no such runtime.
    """
    if name == "onnx":
        from pytest_drlcompress.runtime.onnxruntime import OnnxRuntime

        return OnnxRuntime()
    if name == "c":
        from pytest_drlcompress.runtime.c import CRuntime

        return CRuntime()
    raise ValueError(f"there is no runtime {name!r}; known: {', '.join(RUNTIMES)}")
