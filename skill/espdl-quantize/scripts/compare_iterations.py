#!/usr/bin/env python3
"""Rank the iterations of a folder and say what to run next: ``espdl-quantize compare``.

    python compare_iterations.py --output-dir outputs
    python compare_iterations.py --output-dir outputs --write-next next.json
    python compare_iterations.py --output-dir outputs --finalize [--force-finalize] [--force]
    python compare_iterations.py --output-dir outputs --write-best

Its options and exit codes are the command's: 0 done, 1 refused, 2 usage, 7 output folder.
"""

import sys

sys.dont_write_bytecode = True

from _door import command  # noqa: E402

if __name__ == "__main__":
    command("compare", *sys.argv[1:])
