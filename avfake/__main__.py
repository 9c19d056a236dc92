"""The start of the `avfake` command, also as `python -m avfake`: Ctrl-C ends it without a trace.

A module that is interrupted while it is imported may answer with any error (a NameError, an
ImportError) or with none. So Ctrl-C in the midst of an import ends the process at once, and leaves
behind what a kill does, which the commands put up with. At any other time it is Python's
KeyboardInterrupt, and the command cleans up.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def main() -> int:
    """Run the command line; return the exit status."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return _command()  # who started us wants it ignored
    try:
        signal.signal(signal.SIGINT, _interrupted)
        return _command()
    except KeyboardInterrupt:
        return 130
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # what is left is Python's own end


def _command() -> int:
    from avfake.cli import main as command

    return command()


def _interrupted(number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
