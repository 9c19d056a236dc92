"""The `avfake` command."""

from __future__ import annotations

if __name__ == "__main__":  # as `python -m avfake.cli`: by the same door as `avfake`
    from avfake.__main__ import main as start

    raise SystemExit(start())

import argparse
import errno
import io
import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from avfake import __version__
from avfake.cli_batch import add_batch
from avfake.cli_predict import add_predict
from avfake.cli_report import add_report
from avfake.cli_serve import add_serve
from avfake.cli_submit import add_submit
from avfake.terminal import log_to, visible
from avfake.types import AvfakeError

if TYPE_CHECKING:
    from avfake.bundle import Bundle

DESCRIPTION = """\
How likely is this video a deepfake? avfake looks at the faces, listens to the voice and checks
whether the lips fit the sound, and gives one calibrated probability with the reasons behind it.
Everything runs on this machine; nothing is sent anywhere."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    _open_what_is_closed()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a bar or a file's name shows a question mark, no traceback.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    options = _parser().parse_args(arguments)
    log_to(sys.stderr, logging.DEBUG if options.verbose else logging.CRITICAL)
    logging.captureWarnings(True)  # libraries' remarks on damaged files are for --verbose
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except AvfakeError as error:
        print(f"avfake: {visible(str(error))} [{error.reason}]", file=sys.stderr)
        return 2 if error.reason == "usage" else 1
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        _print_no_more()
        return 1
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _print_no_more()
        print(f"avfake: Output cannot be written: {error.strerror}. [not_written]", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _open_what_is_closed() -> None:
    """Lead standard streams that whoever started us has closed nowhere: else the next file that is
    opened, the answers' perhaps, takes a stream's number and gets what was meant for it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - it stays open


def _print_no_more() -> None:
    """What is left to print goes nowhere, for Python would try again at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _info(options: argparse.Namespace) -> int:
    from avfake.bundle import load_bundle, shipped_bundles

    facts = _facts(load_bundle(options.bundle), shipped_bundles())
    if options.json:
        print(json.dumps(facts))
        return 0
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, value in facts.items():
        lines = value if isinstance(value, list) else [value]
        if isinstance(value, dict):
            lines = [f"{key}: {entry}" for key, entry in value.items()]
        for number, line in enumerate(lines):
            table.add_row("" if number else name.replace("_", " "), Text(str(line)))
    Console(highlight=False).print(table, soft_wrap=True)
    return 0


def _facts(bundle: Bundle, shipped: list[str]) -> dict[str, Any]:
    import platform

    import av
    import dlib
    import onnxruntime

    from avfake.bundle import providers
    from avfake.workers import cores

    sizes = {
        name: f"{(bundle.folder / entry['file']).stat().st_size / 1e6:.2f} MB"
        for name, entry in bundle.manifest["graphs"].items()
    }
    own = bundle.has("finder")
    finders = ["bundled (default)"] if own else []
    finders += [f"dlib {dlib.__version__} ({'--face-model dlib' if own else 'default'})"]
    finders += ["yunet (--face-model FILE.onnx)"]
    return {
        "avfake": __version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "models": f"{bundle.name} {bundle.version}",
        "models_folder": str(bundle.folder),
        "models_sha256": bundle.sha256,
        "graphs": sizes,
        "thresholds": {
            "likely fake": f"from {bundle.threshold('likely_fake'):.3f}",
            "likely real": f"up to {bundle.threshold('likely_real'):.3f}",
        },
        "shipped_models": shipped,
        "face_finders": finders,
        "decoder": f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}",
        "inference": f"onnxruntime {onnxruntime.__version__}",
        "devices": [name.removesuffix("ExecutionProvider") for name in providers()],
        "cores": cores(),
    }


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("avfake", description=DESCRIPTION, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"avfake {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--bundle",
        default="default",
        metavar="NAME|DIR",
        help="models to use: a name that ships with avfake, or a folder (default: default)",
    )
    common.add_argument("--json", action="store_true", help="print JSON instead of text")
    common.add_argument("--verbose", action="store_true", help="log what happens, to stderr")

    add_predict(commands, common)
    add_batch(commands, common)
    add_report(commands, common)
    add_submit(commands, common)
    add_serve(commands, common)

    info = commands.add_parser(
        "info",
        parents=[common],
        help="what is installed: models, face finders, devices",
        description="What is installed: models, face finders, devices.",
    )
    info.set_defaults(run=_info)
    return parser
