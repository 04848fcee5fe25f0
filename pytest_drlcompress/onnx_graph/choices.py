"""Among how many discrete actions does an ONNX model choose?"""

import onnx


def count_choices(model: bytes) -> int | None:
    """The values that the ``ArgMax`` behind the model's output compares.

    ``None`` where there is none, or the file does not tell its size: such a model shows the
    action it should not take only when it takes it.
    """
    proto = onnx.load_from_string(model)
    makers = {output: node for node in proto.graph.node for output in node.output}
    maker = makers.get(proto.graph.output[0].name)
    while maker is not None and maker.op_type in ("Cast", "Identity", "Squeeze", "Reshape"):
        maker = makers.get(maker.input[0])
    if maker is None or maker.op_type != "ArgMax":
        return None
    try:
        graph = onnx.shape_inference.infer_shapes(proto).graph
    except Exception:  # what is only a hint must not refuse a file that runs
        return None
    shapes = {value.name: value.type.tensor_type.shape.dim for value in graph.value_info}
    dimensions = shapes.get(maker.input[0], [])
    return (dimensions[-1].dim_value or None) if len(dimensions) else None
