"""Leave out of a ``Program`` what no weight looks at."""

from dataclasses import replace

import numpy as np

from pytest_drlcompress.codegen.program import Linear, Program


def without_dead_inputs(program: Program) -> Program:
    """Elements of the observation that no weight looks at are not even read. Exact."""
    first, *rest = program.stages
    source = program.observation
    if not rest or not isinstance(rest[0].source, Linear) or rest[0].source.window is not None:
        return program
    layer = rest[0].source
    live = np.flatnonzero((layer.weight != 0).any(0))
    if len(live) in (0, source.size):
        return program
    steps = tuple(
        replace(step, constant=step.constant[live])
        if step.constant is not None and step.constant.ndim
        else step
        for step in first.steps
    )
    if layer.integer:  # the dead weights are zero, so their zero points add nothing
        assert not layer.weight[:, np.setdiff1d(np.arange(source.size), live)].any()
    narrowed = replace(layer, weight=np.ascontiguousarray(layer.weight[:, live]))
    return replace(
        program,
        stages=(
            replace(first, source=replace(source, live=live), steps=steps, units=len(live)),
            replace(rest[0], source=narrowed),
            *rest[1:],
        ),
    )
