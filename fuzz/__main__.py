"""`python -m fuzz [--runs N] [TARGET ...]`: run targets under atheris, each in a process of its own, and say what was found.

The numbers are added to `fuzz/results.json`, from which the table in docs/fuzzing.md is made (`--table`).
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

RESULTS: Final = Path(__file__).with_name("results.json")
_LENGTH: Final = 8192
_DONE: Final = re.compile(r"Done (\d+) runs in (\d+) second")


def child(name: str, corpus: str, *, runs: int, seed: int, slow: bool) -> None:
    """Fuzz one target; libFuzzer ends the process."""
    import atheris  # noqa: PLC0415 - before what it instruments

    with atheris.instrument_imports(include=["sottovoce", "fuzz"]):
        from fuzz.targets import TARGETS  # noqa: PLC0415

    target = TARGETS[name]
    for number, data in enumerate(target.seeds()):
        Path(corpus, f"seed-{number}").write_bytes(data)
    longest = max(map(len, target.seeds()))
    arguments = [
        "fuzz",
        corpus,
        f"-runs={runs}",
        f"-seed={seed}",
        f"-max_len={max(_LENGTH, 2 * longest)}",
        f"-artifact_prefix={corpus}/crash-",
        "-rss_limit_mb=4096",
        "-print_final_stats=1",
    ]
    if not slow:
        arguments.append("-timeout=10")
    atheris.Setup(arguments, target)
    atheris.Fuzz()


def fuzz(name: str, *, runs: int, seed: int, slow: bool) -> dict[str, int]:
    """Fuzz one target in a process of its own: executions, seconds, crashes. What crashed it is printed, as hexadecimal."""
    with tempfile.TemporaryDirectory() as corpus:
        words = [
            "--child",
            name,
            corpus,
            "--runs",
            str(runs),
            "--seed",
            str(seed),
            *(["--slow"] if slow else []),
        ]
        began = time.monotonic()
        run = subprocess.run(
            [sys.executable, "-m", "fuzz", *words],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        done = _DONE.search(run.stderr)
        if done is None or run.returncode:
            print(run.stdout[-4000:], run.stderr[-4000:], sep="\n")
            for path in Path(corpus).glob("crash-*"):
                print("input:", path.read_bytes().hex())
            return {"executions": 0, "seconds": int(time.monotonic() - began), "crashes": 1}
        return {"executions": int(done[1]), "seconds": int(done[2]), "crashes": 0}


def record(name: str, found: dict[str, int]) -> None:
    """Add what was found to the results."""
    results = json.loads(RESULTS.read_text())
    before = results.get(name, {"executions": 0, "crashes": 0})
    results[name] = {key: before[key] + found[key] for key in before}
    RESULTS.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")


def table() -> list[str]:
    """The table of docs/fuzzing.md: a row for each target there is."""
    from fuzz.targets import TARGETS  # noqa: PLC0415 - not in the child, where it is instrumented

    results = json.loads(RESULTS.read_text())
    none = {"executions": 0, "crashes": 0}
    lines = ["| target | executions | crashes |", "|---|---|---|"]
    for name in TARGETS:
        one = results.get(name, none)
        lines.append(f"| `{name}` | {one['executions']:,} | {one['crashes']} |")
    return lines


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0, help="0: another one each time")
    parser.add_argument("--record", action="store_true", help="add the numbers to fuzz/results.json")
    parser.add_argument("--table", action="store_true", help="print the table of docs/fuzzing.md")
    parser.add_argument("--slow", action="store_true", help="no limit of time for one input")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child, runs=arguments.runs, seed=arguments.seed, slow=arguments.slow)
        return 0
    if arguments.table:
        print("\n".join(table()))
        return 0
    from fuzz.targets import TARGETS  # noqa: PLC0415 - not in the child, where it is instrumented

    crashes = 0
    for name in arguments.targets or TARGETS:
        if name not in TARGETS:
            parser.error(f"there is no target {name}; there are {', '.join(TARGETS)}")
        found = fuzz(name, runs=arguments.runs, seed=arguments.seed, slow=arguments.slow)
        rate = found["executions"] // max(found["seconds"], 1)
        print(
            f"{name:20} {found['executions']:>12,} executions {rate:>8,}/s {found['crashes']} crashes",
            flush=True,
        )
        crashes += found["crashes"]
        if arguments.record:
            record(name, found)
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())
