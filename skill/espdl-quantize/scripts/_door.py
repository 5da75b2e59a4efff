"""Opens the installed package for the scripts beside this file, or says how to install it."""

import json
import shlex
import sys
from pathlib import Path

SKILL = Path(__file__).resolve().parent.parent
INSTALLATION = 6
"""The exit code of espdl-quantize for a missing or unfit installation."""


def command(*arguments):
    """Run espdl-quantize with these arguments, and end with its exit code.

    Args:
        *arguments: what would follow ``espdl-quantize`` on a command line.
    """
    if not (3, 10) <= sys.version_info[:2] <= (3, 12):
        found = "{}.{}".format(*sys.version_info[:2])
        _stop("this is Python " + found, "run the script with Python 3.10, 3.11 or 3.12")
    try:
        from espdl_quantize.cli import main
    except ImportError as error:
        missing = error.name or str(error)
        _stop(f"{sys.executable} has no module {missing!r}", _hint())
    sys.argv = ["espdl-quantize", *arguments]
    main()


def _hint():
    """Name the pip line, and the interpreter that has the package if one is known."""
    told = f"run: {shlex.quote(sys.executable)} -m pip install {shlex.quote(_requirement())}"
    python = _installed().get("python")
    if python and python != sys.executable and Path(python).exists():
        told += f"; or run this script with {shlex.quote(python)}, which had it"
    return told


def _requirement():
    checkout = SKILL.parent.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / "src/espdl_quantize").is_dir():
        return str(checkout)
    return _installed().get("requirement") or "espdl-quantize"


def _installed():
    """Return what 'espdl-quantize skill install' noted in this folder."""
    try:
        found = json.loads((SKILL / ".installed.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _stop(cause, hint):
    print("error: " + cause, file=sys.stderr)
    print("  hint: " + hint, file=sys.stderr)
    if "--json" in sys.argv[1:]:
        # As the package writes it, which is not there.
        error = {"kind": "installation", "message": cause, "cause": cause}
        error.update(hint=hint, hint_parts=[hint], exit_code=INSTALLATION)
        print(json.dumps({"ok": False, "error": error}, indent=2))
    sys.exit(INSTALLATION)
