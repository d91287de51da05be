"""`make bench`: every benchmark, one table, one JSON file. Judge by the ratios within one run."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

BENCHMARKS = (
    "cli",
    "ohttp",
    "tokens",
    "spent",
    "verify",
    "session",
    "batching",
    "edge",
    "log",
    "private",
    "app",
    "engine",
    "timing",
)
RESULT = Path("build/benchmarks.json")


def main() -> int:
    """Run the benchmarks named on the command line, or all."""
    names = sys.argv[1:] or list(BENCHMARKS)
    results: dict[str, object] = {}
    failed = []
    for name in names:
        print(f"\n== {name}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "result.json"
            run = subprocess.run(
                [sys.executable, "-m", f"benchmarks.{name}", "--json", str(path)], check=False
            )
            if run.returncode or not path.exists():
                failed.append(name)
            else:
                results[name] = json.loads(path.read_text())
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\nwritten: {RESULT}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


sys.exit(main())
