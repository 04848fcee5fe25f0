"""``python -m pytest_drlcompress search``: the smallest artifact shown to keep the return."""

import argparse
from pathlib import Path

from pytest_drlcompress.cli.arguments import (
    add_options,
    add_policy_arguments,
    add_retention_arguments,
    add_value,
    settings_of,
)
from pytest_drlcompress.cli.tables import Table, write_csv
from pytest_drlcompress.core.option_values import at_least, output_folder
from pytest_drlcompress.core.quantities import parse_bytes

_TABLE = Table(
    ("recipe", "flash", "RAM", "instructions", "bytes", "kept", "verdict"),
    (44, 8, 6, 12, 8, 5, 12),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``search``."""
    parser.add_argument("policy", metavar="POLICY", help="as --drlc-policy")
    add_value(
        parser, "--budget", read_budget, action="append", default=[], metavar="NAME=LIMIT",
        help="flash=8KiB, ram=4KiB, instructions=20000, latency_us=5 or bytes=16kB; repeatable",
    )  # fmt: skip
    add_value(parser, "--minutes", at_least(0.1), default=20.0, metavar="N", help="default 20")
    add_value(
        parser, "--out", output_folder, metavar="DIR", help="trials, front.csv, front.png and the"
        " winner (default: search-POLICY); the same command goes on there",
    )  # fmt: skip
    add_options(parser, ["target"])
    add_retention_arguments(parser)
    add_policy_arguments(parser)


def read_budget(text: str) -> tuple[str, float]:
    """``"flash=8KiB"`` as ``("flash", 8192.0)``.

    Raises:
        ValueError: it has another form.
    """
    name, _, limit = text.partition("=")
    try:
        value = parse_bytes(limit) if name in ("flash", "ram", "bytes") else float(limit)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise ValueError("must be NAME=LIMIT, for example flash=8KiB or latency_us=5")
    return name, value


def run(arguments: argparse.Namespace) -> int:
    """Search, print the front, and say how to make the winner again; 1 where there is none.

    Raises:
        DrlcError: a policy or budget that does not exist, a chip without its tools.
    """
    from pytest_drlcompress.core.files import write_atomic
    from pytest_drlcompress.search.run import reproduction, search

    folder = arguments.out or Path(f"search-{Path(arguments.policy).stem}")
    outcome = search(
        settings_of(arguments, [arguments.policy]),
        arguments.policy,
        dict(arguments.budget),
        folder,
        minutes=arguments.minutes,
        say=lambda line: print(line, flush=True),
    )
    rows = [
        {
            "recipe": trial.recipe,
            **{name: round(value, 3) for name, value in trial.figures.items()},
            "kept": round(trial.kept, 4),
            "verdict": trial.verdict.get("state", ""),
        }
        for trial in outcome.front
    ]
    if rows:
        print(f"\n{_TABLE.head()}")
        for row in rows:
            cells = [str(row["recipe"])]
            cells += [f"{row[name]:,.0f}" for name in ("flash", "ram", "instructions", "bytes")]
            print(_TABLE.row([*cells, f"{row['kept']:.2f}", str(row["verdict"]) or "-"]))
        write_csv(folder / "front.csv", rows)
        _plot(folder / "front.png", outcome)
    print(f"\n{outcome.reason}")
    if outcome.winner is None:
        return 1
    trials = folder / f"{outcome.winner.recipe.replace(':', '~')}.onnx"
    write_atomic(folder / "winner.onnx", trials.read_bytes())
    options = "".join(
        f" --{name} {value}" for name in ("env",) if (value := getattr(arguments, name))
    )
    print(f"{folder / 'winner.onnx'} is it; to make it again:\n{reproduction(outcome, options)}")
    return 0


def _plot(path: Path, outcome: object) -> None:
    """The front as a figure, where matplotlib is installed."""
    import importlib.util

    if importlib.util.find_spec("matplotlib") is not None:
        from pytest_drlcompress.reporting.search_plot import write_front

        write_front(path, outcome)  # type: ignore[arg-type]
