"""Odd command lines for every command: what a user, a script or a tired hand may write."""

import random
from collections.abc import Iterator
from pathlib import Path

ODD = (
    "", " ", "-", "--", "0", "-1", "nan", "inf", "-inf", "1e999", "9" * 300, "9" * 5000, "0x10",
    "../..", "/", ".", "/dev/null", "/proc/self/mem", "a" * 5000, "ü\u202e\u0007x", "\udcff\udcfe",
    "*", "[", "**/*", "a:b", "os:_exit", "module:", ":attribute", "sys:exit", "this:s",
    "{}", "[]", "null", "%s%n", "$(id)", "';--", "a=b", "=", "a=", ",", "+", "@", "ptsq@@",
    "ptsq:equalize", "l2@nan", "l2@1e999", "l2@" + "9" * 400, "narrow@0-0", "narrow@" + "9-" * 50,
    "sparse@95:steps=1e999", "ptsq+" * 200 + "ptsq", "Hopper-v5:pad_observation=100000000000000",
    "Hopper-v5:time_feature=-1", "Hopper-v99", "os:getcwd", "ALE/Nothing-v5", "exits:make",
    "exits:policy", "raises:policy",
)  # fmt: skip

_POLICY = ("--env", "--observations", "--vecnormalize", "--baselines")
_COMMANDS: dict[str, tuple[int, tuple[str, ...]]] = {
    "train": (1, ("--recipe", "--steps", "--segment", "--jobs", "--recipes", "--out", "--work")),
    "baselines": (0, ("--verify", "--markdown", "--baselines", "--recipes", "--workers")),
    "import": (1, ("--env", "--out", "--vecnormalize")),
    "sweep": (1, ("--norm", "--ratios", "--out", "--min-retention", "--max-episodes", *_POLICY)),
    "compare": (2, ("--tolerance",)),
    "costs": (1, ("--variant", "--runtime", "--target", "--out", *_POLICY)),
    "compress": (2, ("--out", *_POLICY)),
    "export": (2, ("--out", "--target", "--layout", "--name", "--vectors", *_POLICY)),
    "search": (1, ("--max-flash", "--target", "--minutes", "--out", "--min-retention", *_POLICY)),
    "sparsity": (1, ("--levels", "--tails", "--options", "--out", *_POLICY)),
    "nothing": (1, ("--help",)),
}


def command_lines(seed: int, known: tuple[str, ...]) -> Iterator[list[str]]:
    """Endless arguments of the command line; ``known`` are texts that name something real.

    At least one argument of each is odd, so that none does the work of an hour.
    """
    generator = random.Random(seed)
    while True:
        command, (count, options) = generator.choice(list(_COMMANDS.items()))
        words = [generator.choice((*ODD, *known)) for _ in range(count)]
        spoiled = generator.randrange(count) if count else None
        if spoiled is not None:
            words[spoiled] = generator.choice(ODD)
        for option in generator.sample(options, min(len(options), generator.randrange(4))):
            value = generator.choice((*ODD, *known))
            words += [f"{option}={value}"] if generator.random() < 0.7 else [option, value]
        if generator.random() < 0.1:
            generator.shuffle(words)
        yield [command, *words]


def write_traps(folder: Path) -> None:
    """Modules that end or fail when a command line names them."""
    (folder / "exits.py").write_text("import sys\ndef make(): sys.exit(7)\npolicy = make\n")
    (folder / "raises.py").write_text("raise RuntimeError('on import')\n")
