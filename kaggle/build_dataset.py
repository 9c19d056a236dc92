"""Pack avfake, its models and everything it needs into one folder for an offline Kaggle kernel.

    python kaggle/build_dataset.py --out dataset --user YOUR_KAGGLE_NAME
    python kaggle/build_dataset.py --out dataset --python 3.11 3.12 --platform manylinux_2_28_x86_64

The folder then holds wheels, from which `pip install --no-index --find-links` installs, and the
`dataset-metadata.json` that `kaggle datasets create -p dataset` wants. Needs pip and an index.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
USER = "INSERT_KAGGLE_USERNAME"
SLUG = "avfake-wheels"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    out: Path = options.out
    if out.exists() and any(out.iterdir()):
        print(f"{out} is not empty: give a new folder", file=sys.stderr)
        return 2
    out.mkdir(parents=True, exist_ok=True)
    wheel = build_wheel(out, options.bundle)
    for version in options.python or [None]:
        download(wheel, out, version, options.platform)
    metadata = {
        "title": "avfake wheels",
        "id": f"{options.user}/{SLUG}",
        "description": "avfake, its models and what it needs, each under the licence it carries.",
        "licenses": [{"name": "other"}],
    }
    (out / "dataset-metadata.json").write_text(json.dumps(metadata, indent=2) + "\n")
    wheels = sorted(out.glob("*.whl"))
    size = sum(path.stat().st_size for path in wheels)
    print(f"{out}: {len(wheels)} wheels, {size / 1e6:.0f} MB")
    if options.user == USER:
        print(f"put your Kaggle name in place of {USER} in {out / 'dataset-metadata.json'}")
    return 0


def build_wheel(out: Path, bundle: Path | None) -> Path:
    """Build avfake's own wheel, with `bundle` among its models if one is given."""
    with tempfile.TemporaryDirectory() as temporary:
        # A copy: what an earlier build left in the repository must not get into the wheel.
        source = Path(temporary, "avfake")
        source.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(REPOSITORY / name, source)
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / "avfake", source / "avfake", ignore=leave)
        if bundle is not None:
            shutil.copytree(bundle, source / "avfake" / "bundles" / bundle.resolve().name)
        _pip("wheel", "--no-deps", "--wheel-dir", str(out), str(source))
    (wheel,) = out.glob("avfake-*.whl")
    return wheel


def download(wheel: Path, out: Path, version: str | None, platform: str | None) -> None:
    """Fetch the wheels that `wheel` needs, all the way down; None: for the Python that runs."""
    arguments = ["--only-binary", ":all:", "--dest", str(out)]
    if version is not None:
        arguments += ["--implementation", "cp", "--python-version", version]
    for tag in platform_tags(platform) if platform is not None else ():
        arguments += ["--platform", tag]
    _pip("download", *arguments, str(wheel))


def platform_tags(platform: str) -> list[str]:
    """The platform and, for `manylinux_2_N_ARCH`, all older ones that run there (PEP 600)."""
    match = re.fullmatch(r"manylinux_2_(\d+)_(\w+)", platform)
    if match is None:
        return [platform]
    newest, machine = int(match[1]), match[2]
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(newest, 4, -1)]
    old = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    return tags + [f"{name}_{machine}" for minor, name in old.items() if minor <= newest]


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0],
        epilog="For Kaggle: --python 3.11 3.12 --platform manylinux_2_28_x86_64; "
        "`!python --version` in a notebook there tells which.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument(
        "--python",
        nargs="+",
        metavar="3.N",
        help="versions that the wheels are for (default: the one that runs this)",
    )
    parser.add_argument(
        "--platform",
        metavar="TAG",
        help="what they are for, such as manylinux_2_28_x86_64 (default: this machine)",
    )
    parser.add_argument(
        "--bundle",
        type=Path,
        metavar="DIR",
        help="also take along your own models; their name is the folder's",
    )
    parser.add_argument("--user", default=USER, help="your Kaggle name, for the metadata")
    return parser


if __name__ == "__main__":
    sys.exit(main())
