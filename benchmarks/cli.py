"""What the command line costs before it does anything, and what a client install takes on disk."""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

RUNS = 9


def help_cpu_ms() -> float:
    """Median CPU time of `sottovoce --help`, milliseconds, interpreter start included; bytecode is there."""
    times = []
    with tempfile.TemporaryDirectory() as bytecode:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        for _ in range(RUNS + 1):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(
                [sys.executable, "-P", "-m", "sottovoce", "--help"],
                check=True,
                stdout=subprocess.DEVNULL,
                env=kept | {"PYTHONPYCACHEPREFIX": bytecode},
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return 1000 * median(times[1:])


def install_mb() -> float:
    """Size of everything that `pip install sottovoce` brings, without bytecode, megabytes."""
    with tempfile.TemporaryDirectory() as folder:
        uv = Path(sys.executable).with_name("uv")
        command = [str(uv), "pip", "install", "--quiet", "--no-compile", "--target", folder, "."]
        subprocess.run(command, check=True)
        return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = {"help_cpu_ms": help_cpu_ms(), "client_install_mb": install_mb()}
    print(f"sottovoce --help, CPU          {result['help_cpu_ms']:8.1f} ms   (bound 150)")
    print(f"client install on disk         {result['client_install_mb']:8.1f} MB   (bound 60)")
    if arguments.json:
        arguments.json.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
