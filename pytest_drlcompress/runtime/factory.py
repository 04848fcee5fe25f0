"""The only place that names a runtime."""

from pytest_drlcompress.runtime.controller import Runtime


def make_runtime(name: str = "onnx") -> Runtime:
    """The runtime called ``name``; it is imported here.

    Raises:
        ValueError: there is no such runtime.
    """
    if name == "onnx":
        from pytest_drlcompress.runtime.onnxruntime import OnnxRuntime

        return OnnxRuntime()
    raise ValueError(f"there is no runtime {name!r}; known: onnx")
