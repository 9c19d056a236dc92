"""What others made is data, never code; and what we build on is bounded and known to be sound."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

HOUSES = ("avfake", "evaluation", "training", "benchmarks", "kaggle", "examples")
UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {
    **dict.fromkeys(("eval", "exec", "compile"), "runs text as code"),
    **dict.fromkeys(("read_pickle", "to_pickle", "unsafe_load", "full_load"), "unpickles"),
    **dict.fromkeys(("system", "popen"), "runs text in a shell"),
}
KNOWN_HOLES: dict[str, str] = {}
"""Identifiers of advisories that the audit passes over, each with the reason why they do not touch
avfake."""


# Nothing is unpickled, nothing run that was read


def faults(source: str) -> list[str]:
    """What in a Python source turns data into code, a line each: its number and what it does."""
    found = []
    for node in ast.walk(ast.parse(source)):
        for what in _faults_of(node):
            found.append(f"{getattr(node, 'lineno', 0)}: {what}")
    return found


def _faults_of(node: ast.AST) -> Iterator[str]:
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    for name in names:
        if UNPICKLERS & set(name.split(".")):
            yield f"imports {name}"
    if isinstance(node, ast.Attribute) and node.attr in UNPICKLERS:
        yield f"uses {node.attr}"
    if not isinstance(node, ast.Call):
        return
    by = {keyword.arg: keyword.value for keyword in node.keywords}
    function = node.func
    if isinstance(function, ast.Name):
        name, owner = function.id, ""
    elif isinstance(function, ast.Attribute):
        name = function.attr
        owner = function.value.id if isinstance(function.value, ast.Name) else "."
    else:
        return
    # `net.eval()`, `re.compile()` and `platform.system()` are other things.
    its_own = {"eval": "", "exec": "", "compile": "", "system": "os", "popen": "os"}
    if name in CALLS and its_own.get(name, owner) == owner:
        yield f"{name} {CALLS[name]}"
    if name == "load" and owner == "torch" and not _is(by.get("weights_only"), True):
        yield "torch.load without weights_only=True"
    if "allow_pickle" in by and not _is(by["allow_pickle"], False):
        yield "allow_pickle"
    if name in ("load", "load_all") and owner == "yaml":
        yield "yaml.load: safe_load reads data alone"
    if "shell" in by and not _is(by["shell"], False):
        yield "shell=True"


def _is(value: ast.expr | None, constant: bool) -> bool:
    return isinstance(value, ast.Constant) and value.value is constant


@pytest.mark.parametrize("house", HOUSES)
def test_no_source_unpickles_or_runs_what_it_reads(repository: Path, house: str) -> None:
    paths = sorted((repository / house).rglob("*.py"))
    assert paths
    found = [
        f"{path.relative_to(repository)}:{fault}"
        for path in paths
        for fault in faults(path.read_text("utf-8"))
    ]
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        *("import pickle", "import joblib.numpy_pickle as j", "from six.moves import cPickle"),
        *("from ray import cloudpickle", "import numpy as np\nnp.compat.pickle.loads(b'')"),
        *("from pickle import loads", "import shelve", "import marshal", "import dill"),
        *("torch.load(path)", "torch.load(path, weights_only=False)"),
        *("torch.load(path, weights_only=flag)", "np.load(path, allow_pickle=True)"),
        *("np.load(path, allow_pickle=flag)", "pd.read_pickle(path)", "table.to_pickle(path)"),
        *("eval(text)", "exec(text)", "compile(text, '', 'exec')", "yaml.load(text)"),
        *("yaml.load(text, Loader=yaml.Loader)", "yaml.unsafe_load(text)"),
        *("subprocess.run(text, shell=True)", "os.system(text)", "os.popen(text)"),
        "def later():\n    if True:\n        from pickle import Unpickler",
    ],
)
def test_the_reader_of_sources_sees_what_it_looks_for(source: str) -> None:
    assert len(faults(source)) >= 1


@pytest.mark.parametrize(
    "source",
    [
        *("net.eval()", "re.compile('a')", "torch.load(path, weights_only=True)"),
        *("np.load(path)", "np.load(path, allow_pickle=False)", "json.loads(text)"),
        *("yaml.safe_load(text)", "subprocess.run([text])", "text = 'import pickle'"),
        *("torch.compile(net)", "import multiprocessing", "evaluate(text)"),
        "platform.system()",
    ],
)
def test_the_reader_of_sources_passes_what_is_harmless(source: str) -> None:
    assert faults(source) == []


def test_what_security_promises_is_held_by_tests_that_are_there(repository: Path) -> None:
    named = set(re.findall(r"`(tests/\w+\.py)`", (repository / "SECURITY.md").read_text("utf-8")))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (repository / name).is_file()] == []


# Dependencies


def requirements(text: str) -> dict[str, str]:
    """Each requirement of a pyproject.toml but those of avfake itself -> the comment beside it."""
    project = tomllib.loads(text)
    lists = [
        project["build-system"]["requires"],
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
    ]
    found = {}
    for one in {entry for entries in lists for entry in entries}:
        if Requirement(one).name != "avfake":
            lines = [line for line in text.splitlines() if f'"{one}"' in line]
            comments = [line.partition("#")[2].strip() for line in lines]
            found[one] = min(comments, key=len)
    return found


def unbounded(requirement: str) -> bool:
    """Whether a version is missing below or above."""
    signs = {part.operator for part in Requirement(requirement).specifier}
    return not ("==" in signs or (">=" in signs and signs & {"<", "<="}))


@pytest.fixture(scope="module")
def project(repository: Path) -> str:
    return (repository / "pyproject.toml").read_text("utf-8")


def test_every_dependency_has_two_bounds_and_a_reason(project: str) -> None:
    found = requirements(project)
    assert len(found) > 30
    assert [one for one in found if unbounded(one)] == []
    assert [one for one, reason in found.items() if len(reason) < 5] == []


@pytest.mark.parametrize(
    ("requirement", "open_ended"),
    [
        *(("a", True), ("a>=1", True), ("a<2", True), ("a!=1.5", True), ("a>=1,!=1.5", True)),
        *(("a>=1,<2", False), ("a==1.*", False), ("a[b]>=1,<2", False)),
    ],
)
def test_open_ends_are_seen(requirement: str, open_ended: bool) -> None:
    assert unbounded(requirement) is open_ended


def test_what_is_installed_fits(project: str) -> None:
    """What the tests pass with is what the bounds promise."""
    misfits = []
    for one in requirements(project):
        requirement = Requirement(one)
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            continue  # of an extra that is not installed
        if not requirement.specifier.contains(version, prereleases=True):
            misfits.append(f"{one}: {version}")
    # Build tools are chosen anew for each build.
    assert [misfit for misfit in misfits if not misfit.startswith("setuptools")] == []


# Known holes


def core(name: str = "avfake") -> dict[str, str]:
    """All that an installation without extras needs, all the way down: name -> version."""
    found: dict[str, str] = {}
    waiting = [name]
    while waiting:
        for line in metadata.requires(waiting.pop()) or ():
            requirement = Requirement(line)
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            key = re.sub(r"[-_.]+", "-", requirement.name).lower()
            if wanted and key not in found:
                found[key] = metadata.version(requirement.name)
                waiting.append(requirement.name)
    return found


def holes(report: Mapping[str, Any], known: Mapping[str, str]) -> list[str]:
    """The advisories in a report of pip-audit's that are not `known`."""
    return [
        f"{package['name']} {package['version']}: {hole['id']}, mended in {hole['fix_versions']}"
        for package in report["dependencies"]
        for hole in package.get("vulns", ())
        if not {hole["id"], *hole.get("aliases", ())} & set(known)
    ]


def test_the_core_is_what_it_is_said_to_be() -> None:
    names = set(core())
    assert {"numpy", "av", "onnxruntime", "protobuf"} <= names
    assert not names & {"torch", "pytest", "onnx", "jinja2", "ray", "fastapi"}


def test_no_known_hole_is_in_what_the_core_needs(tmp_path: Path) -> None:
    """Asks PyPI's advisories; skipped without a network, or where no answer comes soon."""
    pytest.importorskip("pip_audit")
    packages = core()
    listed = tmp_path / "core.txt"
    listed.write_text("".join(f"{name}=={version}\n" for name, version in packages.items()))
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(listed), "--no-deps"]
    command += ["--disable-pip", "--format", "json", "--progress-spinner", "off"]
    command += ["--timeout", "5", "--cache-dir", str(tmp_path / "cache")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        pytest.skip("the advisories did not come within 30 s")
    try:
        report = json.loads(done.stdout)
    except ValueError:
        pytest.skip(f"no advisories: {(done.stderr.splitlines() or ['no word'])[-1][:200]}")
    asked = [package for package in report["dependencies"] if "vulns" in package]
    assert holes(report, KNOWN_HOLES) == []
    if len(asked) < len(packages):
        pytest.skip(f"the service knew of {len(asked)} of {len(packages)} packages; none has holes")


def test_a_hole_fails_the_audit_unless_it_is_listed() -> None:
    hole = {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "fix_versions": ["2.0"]}
    packages = [
        {"name": "a", "version": "1.0", "vulns": [hole]},
        {"name": "b", "version": "1.0", "vulns": []},
        {"name": "c", "skip_reason": "not found"},
    ]
    report = {"dependencies": packages}
    assert holes(report, {}) == ["a 1.0: PYSEC-2026-1, mended in ['2.0']"]
    assert holes(report, {"CVE-2026-1": "we do not use that"}) == []
