"""From a ``Program`` to C99: the templates of ``templates/`` with their arrays filled in."""

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pytest_drlcompress.codegen.layouts import (
    BLOCK_ROWS,
    TILE_COLUMNS,
    TILE_ROWS,
    Choice,
    LayerTables,
    Layout,
    Table,
    encode,
    smallest,
    subtracts_zero_point,
)
from pytest_drlcompress.codegen.program import (
    Codes,
    Elementwise,
    Keep,
    Linear,
    Observation,
    Program,
    Quantize,
    Stage,
)
from pytest_drlcompress.core.errors import CodeGenerationError

if TYPE_CHECKING:
    import jinja2

_LINE = 96


@dataclass(frozen=True)
class Source:
    """The generated files by name, and the bytes that the tables and the stack buffers take.

    ``exact`` says that every action has ONNX Runtime's bits.
    """

    name: str
    files: Mapping[str, str]
    table_bytes: int
    buffer_bytes: int
    layouts: tuple[Layout, ...]
    exact: bool


@dataclass(frozen=True)
class _Buffer:
    name: str
    ctype: str
    length: int
    cleared: bool

    @property
    def nbytes(self) -> int:
        return self.length * (4 if self.ctype == "float" else 1)


@dataclass(frozen=True)
class _Loop:
    """What the template needs of one stage."""

    number: int
    stage: Stage
    kind: str
    layout: str
    tables: Mapping[str, str]
    source: str
    target: str
    target_type: str
    accumulator: str
    offset: int
    finish: tuple[str, ...]
    note: str
    dot: bool


def generate(
    program: Program,
    *,
    name: str = "policy",
    layout: Choice = "small",
    library: bool = False,
) -> Source:
    """``NAME.h`` and ``NAME.c`` of ``program``; for a ``library`` also ``NAME_library.c``.

    Raises:
        CodeGenerationError: ``name`` is no C identifier, or numbers beyond 32 bits.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise CodeGenerationError(f"{name!r} is no C identifier; choose another name")
    emitter = _Emitter(program, layout)
    context: dict[str, Any] = {
        "name": name,
        "program": program,
        "loops": emitter.loops,
        "tables": emitter.tables,
        "buffers": emitter.buffers,
        "observation_type": "uint8_t" if program.observation.dtype == np.uint8 else "float",
        "observation_size": program.observation.size,
        "action_type": "int32_t" if program.chooses else "float",
        "action_size": max(math.prod(program.action_shape), 1),
        "table_bytes": sum(table.nbytes for table in emitter.tables),
        "buffer_bytes": sum(buffer.nbytes for buffer in emitter.buffers),
        "uses_tanh": any(s.operator == "tanh" for stage in program.stages for s in stage.steps),
        "code_types": sorted({loop.target_type for loop in emitter.loops} & {"uint8_t", "int8_t"}),
        "block_rows": BLOCK_ROWS,
        "tile_rows": TILE_ROWS,
        "tile_columns": TILE_COLUMNS,
        "layouts": sorted({loop.layout for loop in emitter.loops if loop.layout}),
        "dots": any(loop.dot for loop in emitter.loops),
    }
    templates = {f"{name}.h": "policy.h.j2", f"{name}.c": "policy.c.j2"}
    if library:
        templates[f"{name}_library.c"] = "shared_library.c.j2"
    files = {file: render_template(template, context) for file, template in templates.items()}
    return Source(
        name,
        MappingProxyType(files),
        context["table_bytes"],
        context["buffer_bytes"],
        tuple(tables.layout for tables in emitter.layers),
        program.exact,
    )


def vector_files(
    program: Program,
    observations: NDArray[Any],
    actions: NDArray[Any],
    *,
    tolerance: float,
    name: str = "policy",
) -> Mapping[str, str]:
    """``NAME_vectors.h`` with observations and the actions that ONNX Runtime gave, and
    ``NAME_check.c``, whose ``main`` compares: bit by bit where ``tolerance`` is 0.
    """
    count = len(observations)
    chooses = program.chooses
    answers = np.asarray(actions).reshape(count, -1)
    bits = answers.astype(np.int32) if chooses else answers.astype(np.float32).view(np.uint32)
    context = {
        "name": name,
        "count": count,
        "observation_type": "uint8_t" if program.observation.dtype == np.uint8 else "float",
        "observations": observations.astype(program.observation.dtype).reshape(count, -1),
        "actions": answers.astype(np.float32) if tolerance else bits,
        "action_type": "int32_t" if chooses else "float",
        "tolerance": np.float32(tolerance),
    }
    templates = {f"{name}_vectors.h": "vectors.h.j2", f"{name}_check.c": "check.c.j2"}
    return MappingProxyType(
        {file: render_template(template, context) for file, template in templates.items()}
    )


class _Emitter:
    """Names tables and buffers, and writes what happens to each unit."""

    def __init__(self, program: Program, layout: Choice) -> None:
        self.tables: list[Table] = []
        self.layers: list[LayerTables] = []
        last = len(program.stages) - 1
        sizes: dict[tuple[str, int], int] = {}
        targets: list[tuple[str, str]] = []
        for number, stage in enumerate(program.stages):
            ctype = _target_type(stage)
            if number == last:
                targets.append(("action", ctype))
                continue
            key = (ctype, number % 2)
            sizes[key] = max(sizes.get(key, 0), stage.units)
            targets.append((_buffer_name(*key), ctype))
        self.loops = [
            self._loop(number, stage, layout, targets, number == last)
            for number, stage in enumerate(program.stages)
        ]
        tiled = any(tables.layout == "tile" for tables in self.layers)
        self.buffers = [
            _Buffer(
                _buffer_name(*key), key[0], size + (-size % TILE_COLUMNS if tiled else 0), tiled
            )
            for key, size in sizes.items()
        ]

    def _loop(
        self,
        number: int,
        stage: Stage,
        layout: Choice,
        targets: list[tuple[str, str]],
        last: bool,
    ) -> _Loop:
        source, tables, kind = stage.source, {}, "elementwise"
        accumulator, chosen, offset, dot = "", "", 0, False
        taken = targets[number - 1][0] if number else "observation"
        if isinstance(source, Linear):
            unsigned = number > 0 and targets[number - 1][1] == "uint8_t"
            encoded = encode(source, number, layout, unsigned_codes=unsigned)
            self.layers.append(encoded)
            self.tables += encoded.tables.values()
            tables = {role: table.name for role, table in encoded.tables.items()}
            kind = "dense" if source.window is None else "convolution"
            chosen = encoded.layout
            accumulator = "int32_t" if source.integer else "float"
            offset = source.zero_point if subtracts_zero_point(source) else 0
            bytes_ = encoded.tables["weight"].values.dtype == np.int8
            dot = kind == chosen == "dense" and unsigned and bytes_
        elif isinstance(source, Observation) and len(source.live) < source.size:
            live = self._table(f"live{number}", source.live, "live inputs")
            taken = f"observation[{live}[i]]"
        else:
            taken = f"{taken}[i]"
        return _Loop(
            number=number,
            stage=stage,
            kind=kind,
            layout=chosen,
            tables=MappingProxyType(tables),
            source=taken,
            target=targets[number][0],
            target_type=targets[number][1],
            accumulator=accumulator,
            offset=offset,
            finish=tuple(self._finish(number, stage, targets[number][0], last)),
            note=_note(stage),
            dot=dot,
        )

    def _finish(self, number: int, stage: Stage, target: str, last: bool) -> list[str]:
        """What happens to unit ``i`` after its sum (``sum``) or its value (``v``) is known."""
        source, sink, lines = stage.source, stage.sink, []
        direct = (
            isinstance(source, Linear)
            and source.scale is not None
            and isinstance(sink, Quantize)
            and all(step.operator == "relu" for step in stage.steps)
        )
        low = sink.low if isinstance(sink, Quantize) else 0
        if isinstance(source, Linear) and source.scale is not None:
            scale = source.scale
            if direct:
                assert isinstance(sink, Quantize)
                # one multiplication from sum to code, as ONNX Runtime's integer kernels do
                scale = np.asarray(scale / sink.scale, np.float32)
                low = max(low, sink.zero_point) if stage.steps else low
            row = "row" if source.window is not None else "i"
            lines.append(f"float v = (float)sum * {self._value(f'scales{number}', scale, row)};")
        elif isinstance(source, Linear):
            lines.append("float v = sum;")
        if not direct:
            for place, step in enumerate(stage.steps):
                lines.append(self._step(f"step{number}_{place}", step))
        if isinstance(sink, Quantize):
            if not direct:
                lines.append(f"v = v / {c_float(sink.scale)};")
            bounds = (c_float(low - sink.zero_point), c_float(sink.high - sink.zero_point))
            ctype = _target_type(stage)
            lines.append(f"{target}[i] = to_{ctype}(v, {', '.join(bounds)}, {sink.zero_point});")
        elif isinstance(sink, Keep):
            lines.append(f"{target}[i] = v;")
        else:
            assert last
            lines.append("if (i == 0 || v > best) {")
            lines.append("    best = v;")
            lines.append("    action[0] = i;")
            lines.append("}")
        return lines

    def _step(self, name: str, step: Elementwise) -> str:
        if step.operator == "relu":
            return "v = v > 0.0f ? v : 0.0f;"
        if step.operator == "tanh":
            return "v = policy_tanh(v);"
        assert step.constant is not None
        value = self._value(name, step.constant, "i")
        return {
            "add": f"v = v + {value};",
            "sub": f"v = v - {value};",
            "sub_from": f"v = {value} - v;",
            "mul": f"v = v * {value};",
            "div": f"v = v / {value};",
            "div_by": f"v = {value} / v;",
            "max": f"v = v < {value} ? {value} : v;",
            "min": f"v = v > {value} ? {value} : v;",
        }[step.operator]

    def _value(self, name: str, constant: NDArray[np.float32], index: str) -> str:
        flat = constant.ravel()
        if flat.size and (flat.view(np.uint32) == flat.view(np.uint32)[0]).all():
            return c_float(flat[0])
        return f"{self._table(name, flat, 'constants')}[{index}]"

    def _table(self, name: str, values: NDArray[Any], role: str) -> str:
        if values.dtype != np.float32:
            values = smallest(values)
        self.tables.append(Table(name, values, role))
        return name


def c_float(value: Any) -> str:
    """``value`` as a C99 literal that is exactly this float32."""
    number = float(np.float32(value))
    if math.isnan(number):
        return "NAN"
    if math.isinf(number):
        return "INFINITY" if number > 0 else "-INFINITY"
    if number == int(number) and abs(number) < 2**20 and math.copysign(1, number) == 1:
        return f"{int(number)}.0f"
    if number == int(number) and abs(number) < 2**20 and number != 0:
        return f"({int(number)}.0f)"
    return (
        f"{number.hex()}f" if number >= 0 and math.copysign(1, number) > 0 else f"({number.hex()}f)"
    )


def c_array(values: NDArray[Any]) -> str:
    """The elements of ``values`` for an initializer, in lines of bounded length."""
    texts = [c_float(v) if values.dtype == np.float32 else _c_integer(v) for v in values.ravel()]
    lines, line = [], ""
    for text in texts:
        if line and len(line) + len(text) + 2 > _LINE:
            lines.append(line)
            line = ""
        line += f"{' ' if line else ''}{text},"
    return "\n    ".join([*lines, line])


def _c_integer(value: Any) -> str:
    return f"0x{int(value):08x}u" if isinstance(value, np.uint32) else str(int(value))


def render_template(template: str, context: Mapping[str, Any]) -> str:
    """``templates/TEMPLATE`` filled in."""
    return str(_environment().get_template(template).render(context))


@functools.cache
def _environment() -> "jinja2.Environment":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pytest_drlcompress.codegen"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  # C, not HTML
    )
    environment.filters.update(c_array=c_array, c_float=c_float)
    return environment


def _target_type(stage: Stage) -> str:
    if isinstance(stage.sink, Quantize):
        return "uint8_t" if stage.sink.low >= 0 else "int8_t"
    return "float" if isinstance(stage.sink, Keep) else "int32_t"


def _buffer_name(ctype: str, parity: int) -> str:
    return f"{'values' if ctype == 'float' else 'codes'}_{('even', 'odd')[parity]}" + (
        "_signed" if ctype == "int8_t" else ""
    )


def _note(stage: Stage) -> str:
    source, sink = stage.source, stage.sink
    if isinstance(source, Observation):
        start = "the observation"
    elif isinstance(source, Codes):
        start = f"codes * {source.scale:g}"
    else:
        start = f"layer {source.name}, {' x '.join(map(str, source.weight.shape))}"
    steps = ", ".join(step.operator for step in stage.steps)
    end = f"codes of {sink.scale:g}" if isinstance(sink, Quantize) else ""
    return "; ".join(part for part in (start, steps, end) if part).replace("*/", "* /")
