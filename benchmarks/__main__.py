"""``python -m benchmarks NAME [--json] [--markdown FILE]``: runs ``benchmarks/NAME.py``.

Such a file has ``rows() -> list[Row]``; it may set ``THREADS`` (torch threads while it runs, default 1) and ``DEVICE``
(default "cpu"). Files whose names begin with an underscore help others.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path

import benchmarks
from benchmarks.report import as_json, as_markdown, print_table


def names() -> list[str]:
    """The benchmarks that exist."""
    found = (module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    return sorted(name for name in found if name != "report" and not name.startswith("_"))


def main() -> int:
    """Run one benchmark; 0 done, 2 bad usage."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=benchmarks.__doc__)
    parser.add_argument("name", choices=names())
    parser.add_argument("--json", action="store_true", help="print one machine-readable last line")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table as a page")
    arguments = parser.parse_args()
    module = importlib.import_module(f"benchmarks.{arguments.name}")
    threads, device = getattr(module, "THREADS", 1), getattr(module, "DEVICE", "cpu")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    rows = module.rows()
    print_table(arguments.name, rows, device, threads)
    if arguments.markdown:
        arguments.markdown.write_text(as_markdown(arguments.name, rows, device, threads))
    if arguments.json:
        print(as_json(arguments.name, rows, device, threads), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
