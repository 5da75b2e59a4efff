"""``espdl-quantize watch``: the report as a page that renews itself while a search runs."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from espdl_quantize.cli._paths import whole
from espdl_quantize.cli.terminal import printable, say
from espdl_quantize.core import (
    InstallationError,
    UsageError,
    to_jsonable,
)

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

    from espdl_quantize.record import BlockLoss

HOST = "127.0.0.1"
PORT = 8765
_LINES = 60
_BLOCKS = 40


def watch(
    *,
    outputs: Annotated[
        Path,
        typer.Argument(metavar="OUTPUTS", help="The folder that holds iter_0, or will hold it."),
    ] = Path("outputs"),
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help=f"Without it {PORT}, or any that is free where that is taken; 0 takes any.",
        ),
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Open no browser.")] = False,
) -> None:
    """Show the report of a folder in a browser, renewed while a search runs there.

    It is served to this machine alone. The page outlives the search, and goes on with the next one
    in the folder. Ctrl-C ends it, with exit code 0; a search that it shows goes on.
    """
    # Nothing is left undone where somebody has looked enough: an interrupt is the usual end.
    with contextlib.suppress(KeyboardInterrupt):
        server, listening = _listen(whole(outputs)) if port is None else serve(whole(outputs), port)
        with listening:
            address = f"http://{HOST}:{listening.getsockname()[1]}/"
            say(f"watching {outputs} at {address} (Ctrl-C ends it)")
            # Into a pipe or a log it would come only at the end.
            sys.stdout.flush()
            if not no_open:
                opening = threading.Timer(0.5, webbrowser.open, (address,))
                opening.daemon = True
                opening.start()
            server.run(sockets=[listening])


@contextlib.contextmanager
def watched(outputs: Path) -> Iterator[str]:
    """Serve the page of a folder, and open it, while the block runs; yield its address.

    Raises:
        InstallationError: what serves it is not installed.
    """
    server, listening = _listen(outputs)
    address = f"http://{HOST}:{listening.getsockname()[1]}/"
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    # Where no browser can be opened, as on a machine that is reached by ssh, it is typed.
    print(f"the report, renewed while the search runs: {address}", file=sys.stderr)
    webbrowser.open(address)
    try:
        yield address
    finally:
        # The page asks every second: it is to see the end.
        time.sleep(1.5)
        server.should_exit = True
        thread.join(5)
        listening.close()


def _listen(outputs: Path) -> tuple[uvicorn.Server, socket.socket]:
    """Serve at the usual port, so that a page that is open goes on; else at any."""
    try:
        return serve(outputs, PORT)
    except UsageError:
        # Another folder is watched there, or this one by another watcher.
        return serve(outputs, 0)


def serve(outputs: Path, port: int) -> tuple[uvicorn.Server, socket.socket]:
    """Return a server that is ready to run, and the socket for it.

    Raises:
        InstallationError: what serves it is not installed.
        UsageError: the port is taken.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise InstallationError(
            "watching needs starlette and uvicorn", "pip install 'espdl-quantize[watch]'"
        ) from error
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        # From now on a browser that is too early waits instead of being refused.
        listening.listen()
    except OSError as error:
        listening.close()
        raise UsageError(
            f"the port {port} of {HOST} cannot be had: {error.strerror}", "give another --port"
        ) from error
    config = uvicorn.Config(
        make_app(outputs),
        log_level="error",
        lifespan="off",
        access_log=False,
        # A browser that keeps its connection open does not keep the server.
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(config), listening


def make_app(outputs: Path) -> Starlette:
    """Return the application: the page, and where the search stands.

    It answers only to the names of this machine: a page from elsewhere whose name was made to lead
    here is refused.
    """
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, JSONResponse, Response
    from starlette.routing import Route

    fresh = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

    def page(_: Request) -> Response:
        return HTMLResponse(live_page(outputs), headers=fresh)

    def state(_: Request) -> Response:
        return JSONResponse(live_state(outputs), headers=fresh)

    return Starlette(
        routes=[Route("/", page), Route("/state.json", state)],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
    )


def live_page(outputs: Path) -> str:
    """Write the page of a folder as it is now; one that is not there yet has little to show."""
    from espdl_quantize.record import folder_version
    from espdl_quantize.report import page_of

    return page_of(outputs, live=folder_version(outputs))


def live_state(outputs: Path) -> dict[str, Any]:
    """Return where the search stands, as the page's script reads it."""
    from espdl_quantize.record import (
        block_losses,
        folder_version,
        iteration_number,
        read_live,
        read_log,
        running_log,
    )

    live = read_live(outputs)
    number = live.iteration
    if number is None:
        numbers = [iteration_number(folder) for folder in _folders(outputs)]
        number = max((each for each in numbers if each is not None), default=None)
    lines = [] if number is None else read_log(running_log(outputs, number))
    trained = block_losses(lines)[-_BLOCKS:]
    blocks = [_shown(block, is_last=block is trained[-1]) for block in trained]
    message = "No search runs in this folder; the page goes on with the next one."
    if not _folders(outputs):
        message = f"Nothing is in {outputs} yet; the page goes on once a search runs there."
    form: dict[str, Any] = to_jsonable(
        {
            "is_running": live.is_running,
            "what": printable(live.what),
            "message": printable(message),
            "stages": [printable(stage) for stage in live.stages] if live.is_running else [],
            "fraction": live.fraction,
            "detail": printable(live.detail),
            "seconds": None if live.started is None else max(0.0, time.time() - live.started),
            "seconds_left": live.seconds_left,
            "blocks": blocks,
            "log": [printable(line)[:500] for line in lines[-_LINES:]],
            "version": folder_version(outputs),
        }
    )
    return form


def _shown(block: BlockLoss, *, is_last: bool) -> dict[str, Any]:
    """Return what the page says of the training of a block, and the curve behind it."""
    from espdl_quantize.report.figures import spark

    loss = "training" if is_last else "the loss is not finite"
    if block.before is not None and block.after is not None:
        loss = f"loss {block.before:.4g} to {block.after:.4g}"
    curve = spark(block.losses)
    return {
        "text": printable(f"block {block.number} of {block.count}: {loss}"),
        "spark": None if curve is None else asdict(curve),
    }


def _folders(outputs: Path) -> list[Path]:
    try:
        return sorted(outputs.glob("iter_*"))
    except OSError:
        return []
