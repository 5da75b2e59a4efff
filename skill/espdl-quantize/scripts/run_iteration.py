#!/usr/bin/env python3
"""Run one iteration, or check a contract: ``espdl-quantize run`` and ``check`` by flags alone.

    python run_iteration.py --user-quant user_quant.py --output-dir outputs/iter_0 --baseline
    python run_iteration.py --user-quant user_quant.py --output-dir outputs/iter_1 --setting s.json
    python run_iteration.py --user-quant user_quant.py --check-contract

Exit codes are those of espdl-quantize: 0 done, 1 refused, 2 usage, 3 contract, 4 setting,
5 iteration failed, 6 installation or device, 7 output folder, 130 interrupted.
"""

import argparse
import json
import sys

sys.dont_write_bytecode = True

from _door import command  # noqa: E402

USAGE = 2


class Parser(argparse.ArgumentParser):
    """Reports its errors as espdl-quantize does."""

    def error(self, message):
        """Print what is wrong, as JSON too where that was asked for, and end."""
        print(f"error: {message}\n  hint: see --help", file=sys.stderr)
        if "--json" in sys.argv[1:]:
            error = {"message": message, "cause": message, "hint": "see --help", "exit_code": USAGE}
            print(json.dumps({"ok": False, "error": error}, indent=2))
        sys.exit(USAGE)


def main():
    """Translate the flags, and hand over."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        epilog="Every other option goes on to 'espdl-quantize run', such as --json, --dry-run, "
        "--allow, --overwrite, --engine, --seed; see 'espdl-quantize run --help'.",
    )
    parser.add_argument("--user-quant", required=True, metavar="FILE", help="the contract module")
    parser.add_argument("--output-dir", metavar="DIR", help="the iteration's folder, .../iter_<N>")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--baseline", action="store_true", help="esp-ppq's default setting")
    what.add_argument("--setting", metavar="FILE", help="a JSON setting")
    what.add_argument("--check-contract", action="store_true", help="check, without quantizing")
    parser.add_argument(
        "--use-full-eval", action="store_true", help="score by evaluate(), not evaluate_fast()"
    )
    known, others = parser.parse_known_args()
    if known.check_contract:
        if known.output_dir:
            print("note: a check writes nothing; --output-dir is not needed", file=sys.stderr)
        command("check", known.user_quant, *others)
        return
    if known.output_dir is None:
        parser.error("--output-dir is missing: give the iteration's folder, .../iter_<N>")
    what_to_run = ["--baseline"] if known.baseline else ["--setting", known.setting]
    full = ["--use-full-eval"] if known.use_full_eval else []
    command("run", known.user_quant, "--output-dir", known.output_dir, *what_to_run, *full, *others)


if __name__ == "__main__":
    main()
