"""Holds every .espdl of a folder against the rules of its chip.

Meant for files that Espressif publishes, which run on boards: what is called illegal among them is
a false alarm. ``python -m benchmarks.official FOLDER`` needs the files of
https://github.com/espressif/esp-dl, or any others; the chip is read off a file's path.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_CHIP = re.compile(r"(?:^|[^a-z0-9])(?:esp32)?(p4|s3|s31|c)(?=$|[^a-z0-9])")
_CHIPS = {"p4": "esp32p4", "s3": "esp32s3", "s31": "esp32s31", "c": "c"}


def chip_of(file: Path) -> str | None:
    """Return the chip that a path names last, such as p4/model.espdl; None where it names none."""
    for part in reversed(file.with_suffix("").parts):
        named = _CHIP.findall(part.lower())
        if named:
            return _CHIPS[named[-1]]
    return None


def check_folder(folder: Path, chip: str | None = None) -> list[dict[str, Any]]:
    """Check every .espdl below a folder.

    Args:
        folder: searched with all that is in it.
        chip: of files whose path names none; None leaves them out, and says so.

    Returns:
        One mapping per file: its path, chip, faults and doubts.
    """
    from espdl_quantize.chip import check_legality

    results: list[dict[str, Any]] = []
    for file in sorted(folder.rglob("*.espdl")):
        name = file.relative_to(folder).as_posix()
        its_chip = chip_of(file.relative_to(folder)) or chip or chip_of(file)
        if its_chip is None:
            results.append({"file": name, "chip": None, "faults": [], "doubts": []})
            continue
        legality = check_legality(file, its_chip)
        results.append(
            {
                "file": name,
                "chip": its_chip,
                "faults": [vars(fault) for fault in legality.faults],
                "doubts": [vars(doubt) for doubt in legality.doubts],
            }
        )
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line per file and rule; 1 where a file is illegal, 2 where there is none."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chip", help="of files whose path names none")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    options = parser.parse_args(arguments)
    results = check_folder(options.folder, options.chip)
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        for result in results:
            print(_line(result))
    checked = [result for result in results if result["chip"]]
    illegal = sum(bool(result["faults"]) for result in checked)
    doubtful = sum(bool(result["doubts"]) and not result["faults"] for result in checked)
    legal = len(checked) - illegal - doubtful
    print(
        f"{len(checked)} files: {legal} legal, {doubtful} legal with doubts, {illegal} illegal; "
        f"{len(results) - len(checked)} without a chip in their path",
        file=sys.stderr,
    )
    return 2 if not checked else int(illegal > 0)


def _line(result: dict[str, Any]) -> str:
    if result["chip"] is None:
        return f"{result['file']}: no chip in its path; give --chip"
    lines = [f"{result['file']} on {result['chip']}: {'illegal' if result['faults'] else 'legal'}"]
    for kind in ("faults", "doubts"):
        counts = Counter((found["rule"], found["op_type"]) for found in result[kind])
        for (rule, op_type), count in counts.items():
            first = next(
                found
                for found in result[kind]
                if (found["rule"], found["op_type"]) == (rule, op_type)
            )
            lines.append(
                f"  {kind[:-1]}: {rule}, {count} {op_type}; {first['op']}: {first['cause']}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
