"""Many damaged files through one reader, in a process that may crash or hang: the long form.

``python tests/fuzz/campaign.py INPUTS [SEED] [TARGET ...]`` prints what became of them and keeps
what broke in ``fuzz-findings/``.
"""

import collections
import multiprocessing
import os
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

HANG_S = 10.0
"""Processor time beyond which an input counts as a hang."""


def inputs(name: str, seed: int, count: int) -> list[bytes]:
    """``count`` damaged files of one target; the same for a seed."""
    from targets import TARGETS

    target = next(target for target in TARGETS if target.name == name)
    seeds = target.seeds()
    generator = random.Random(f"{name} {seed}")
    return [target.damage(generator, generator.choice(seeds)) for _ in range(count if seeds else 0)]


def _serve(name: str, contents: list[bytes], first: int, pipe: Any, folder: str) -> None:
    from targets import TARGETS, attempt

    target = next(target for target in TARGETS if target.name == name)
    for number in range(first, len(contents)):
        inner = Path(folder) / "x"
        inner.mkdir(exist_ok=True)
        started = time.process_time()
        try:
            found = attempt(target, inner, contents[number])
        except BaseException as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            found = f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}"
        if time.process_time() - started > HANG_S:
            found = "hang"
        pipe.send((number, found))
    pipe.send(None)


def campaign(name: str, seed: int, count: int, keep: Path | None) -> collections.Counter[str]:
    """What became of ``count`` inputs; those that broke something are kept in ``keep``."""
    contents = inputs(name, seed, count)
    counts: collections.Counter[str] = collections.Counter()
    context = multiprocessing.get_context("fork")
    done = 0
    with tempfile.TemporaryDirectory() as folder:
        while done < len(contents):
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_serve, args=(name, contents, done, theirs, folder))
            process.start()
            theirs.close()
            while done < len(contents):
                try:
                    answer = ours.recv() if ours.poll(90) else (done, "hang")
                except EOFError:
                    process.join()
                    answer = (done, f"crash {process.exitcode}")
                if answer is None:
                    break
                number, found = answer
                counts[found] += 1
                done = number + 1
                if found not in ("read", "refused") and keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    label = "".join(c if c.isalnum() else "-" for c in found)
                    (keep / f"{name}.{label}.{seed}.{number}").write_bytes(contents[number])
                if found.startswith(("crash", "hang")):
                    break
            process.kill()
            process.join()
    return counts


def main() -> int:
    """Every target, or those that are named, each a share of the inputs."""
    from targets import TARGETS

    count, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    names = sys.argv[3:] or [target.name for target in TARGETS]
    total: collections.Counter[str] = collections.Counter()
    for name in names:
        counts = campaign(name, seed, count // len(names), Path("fuzz-findings"))
        print(f"{name:14} {dict(counts)}", flush=True)
        total += counts
    print(f"{'total':14} {dict(total)}")
    return int(any(found not in ("read", "refused") for found in total))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
