"""``python -m benchmarks NAME [--json]``: runs ``benchmarks/NAME.py``.

Such a file has ``rows() -> list[Row]``; it may set ``THREADS`` (torch threads while it runs, default 1) and ``DEVICE``
(default "cpu").
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys

import benchmarks
from benchmarks.report import as_json, print_table


def names() -> list[str]:
    """The benchmarks that exist."""
    return sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if m.name not in ("__main__", "report"))


def main() -> int:
    """Run one benchmark; 0 done, 2 bad usage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=benchmarks.__doc__)
    parser.add_argument("name", choices=names())
    parser.add_argument("--json", action="store_true", help="print one machine-readable last line")
    arguments = parser.parse_args()
    module = importlib.import_module(f"benchmarks.{arguments.name}")
    threads, device = getattr(module, "THREADS", 1), getattr(module, "DEVICE", "cpu")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    rows = module.rows()
    print_table(arguments.name, rows, device, threads)
    if arguments.json:
        print(as_json(arguments.name, rows, device, threads), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
