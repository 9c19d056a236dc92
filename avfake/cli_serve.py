"""The command `avfake serve`: its options, and what it says."""

from __future__ import annotations

import argparse
import logging
import os
import threading
from typing import Any

from avfake.cli_common import add_face_model, duration, some
from avfake.cli_limits import add_limits, limits_of
from avfake.types import AvfakeError

NOTES = """\
examples:
  avfake serve --open                          the page, in the browser, for this machine alone
  AVFAKE_TOKEN=... avfake serve --host 0.0.0.0 for other machines, too: put TLS in front of it

Clips are judged in worker processes; nothing leaves this machine. What was sent is kept in a
private folder (below /tmp, or where the environment variable TMPDIR says) until nobody has asked
for it for --keep, or the server ends. The API describes itself at /docs.

exit status: 0 it was told to end, 1 it could not start, 2 wrong usage"""


def add_serve(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to argparse's `commands`; `common` holds the options that all share."""
    serve = commands.add_parser(
        "serve",
        parents=[common],
        help="a page in the browser, and a JSON API",
        description="Serve a page for the browser, and a JSON API.",
        epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at (default: 127.0.0.1, this machine alone; others need a token)",
    )
    serve.add_argument(
        "--port", type=_port, default=8765, help="default: 8765; 0 for one that is free"
    )
    serve.add_argument(
        "--token",
        default=os.environ.get("AVFAKE_TOKEN") or None,
        help="what every request must bring along; better set the environment variable "
        "AVFAKE_TOKEN, for other users see a command line",
    )
    serve.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name by which browsers reach this server, behind a proxy say (may be repeated)",
    )
    serve.add_argument("--open", action="store_true", help="open the page in the browser")
    serve.add_argument(
        "--workers",
        type=some,
        metavar="N",
        help="clips judged side by side, about 0.6 GB each (default: one for two cores, 4 at most)",
    )
    serve.add_argument(
        "--queue", type=some, default=8, metavar="M", help="clips that may wait (default: 8)"
    )
    serve.add_argument(
        "--keep",
        type=duration,
        default=3600.0,
        metavar="1h",
        help="how long a clip outlives the last question about it (default: 1h)",
    )
    serve.add_argument(
        "--timeout",
        type=duration,
        default=1200.0,
        metavar="20m",
        help="time for judging one clip (default: 20m)",
    )
    add_face_model(serve)
    add_limits(serve, memory=True)
    serve.set_defaults(run=_serve)


def _serve(options: argparse.Namespace) -> int:
    try:
        from avfake.serve.server import serve
        from avfake.serve.settings import Settings
    except ImportError as error:
        if (error.name or "").split(".")[0] == "avfake":
            raise
        raise AvfakeError(
            "needs_extra", "The server needs some packages more: pip install 'avfake[serve]'."
        ) from None
    from avfake.workers import Models, cores

    workers = options.workers or max(1, min(4, cores() // 2))
    models = Models(
        options.bundle, options.face_model, max(1, cores() // workers), limits_of(options)
    )
    settings = Settings(
        options.host,
        options.port,
        options.token,
        tuple(options.allow_host),
        workers,
        options.queue,
        options.keep,
        options.timeout,
        models,
    )
    _log_to_stderr()

    def ready(address: str) -> None:
        print(f"avfake is at {address}   (Ctrl-C ends it)", flush=True)
        if options.open:
            import webbrowser

            # In a thread, for some browsers are waited for, and they for the page.
            threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()

    print("loading the models ...", flush=True)
    serve(settings, ready)
    return 0


def _log_to_stderr() -> None:
    """What the server logs is shown without --verbose, too: it names neither files nor tokens."""
    log = logging.getLogger("avfake.serve")
    if log.getEffectiveLevel() > logging.INFO:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)
