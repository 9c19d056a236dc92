"""Nothing is sent or fetched unless it was asked for by name, and nothing is imported from where a
stranger's files lie."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from avfake.cli import main
from avfake.detector import Detector

GUARD = """
import os, sys

def guard(event, details):
    if not event.startswith("socket."):
        return
    address = details[1] if event in ("socket.connect", "socket.bind", "socket.sendto") else None
    family = details[1] if event == "socket.__new__" else None
    asks = event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
    # Processes of one machine talk through AF_UNIX (1), whose addresses are no tuples.
    if asks or isinstance(address, tuple) or family in (2, 10):
        with open(os.environ["NETWORK_LOG"], "a") as log:
            print(event, details[1:], file=log)
        raise PermissionError(f"no network here: {event}")

sys.addaudithook(guard)
"""
PREDICT = (
    "import avfake; detector = avfake.Detector.from_pretrained(); "
    "answer = detector.predict('clips/sample.mp4'); assert answer.status == 'ok', answer"
)
COMMANDS = {
    "import": ["-c", "import avfake; avfake.__all__; import avfake.detector"],
    "predict in Python": ["-c", PREDICT],
    "info": ["-m", "avfake.cli", "info"],
    "predict": ["-m", "avfake.cli", "predict", "clips/sample.mp4"],
    "report": ["-m", "avfake.cli", "report", "clips/sample.mp4"],
    "submit": ["-m", "avfake.cli", "submit", "clips", "--workers", "1"],
    "batch": ["-m", "avfake.cli", "batch", "clips", "--out", "rows.jsonl", "--workers", "1"],
}


@pytest.fixture
def folder(tmp_path: Path, sample_path: Path) -> Path:
    """One that a stranger might have packed: with a clip in it."""
    (tmp_path / "clips").mkdir()
    shutil.copy(sample_path, tmp_path / "clips")
    return tmp_path


@pytest.fixture
def guarded(tmp_path: Path) -> dict[str, str]:
    """An environment in which each Python denies, and notes, what would reach a network."""
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD)
    path = os.pathsep.join([str(tmp_path / "guard"), str(Path(__file__).parent.parent)])
    return os.environ | {"PYTHONPATH": path, "NETWORK_LOG": str(tmp_path / "network.log")}


def run(
    command: list[str], folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_opens_a_network_socket(
    folder: Path, guarded: dict[str, str], name: str
) -> None:
    """The processes that it starts are guarded, too."""
    done = run(COMMANDS[name], folder, guarded)
    assert done.returncode == 0, done.stderr
    assert not Path(guarded["NETWORK_LOG"]).exists()


@pytest.mark.parametrize(
    "code",
    [
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:1/')",
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "import multiprocessing as m, socket\n"
        "if __name__ == '__main__':\n"
        "    p = m.get_context('spawn').Process(target=socket.getaddrinfo, args=('a.invalid', 1))\n"
        "    p.start(); p.join(); raise SystemExit(p.exitcode)",
    ],
)
def test_the_guard_notices_what_it_is_there_for(
    folder: Path, guarded: dict[str, str], code: str
) -> None:
    (folder / "reaching.py").write_text(code)
    done = run(["reaching.py"], folder, guarded)
    assert done.returncode
    assert "socket." in Path(guarded["NETWORK_LOG"]).read_text()


@pytest.mark.parametrize("name", ["predict", "batch"])
def test_no_library_in_c_opens_a_network_socket(folder: Path, name: str) -> None:
    """What Python's own hooks cannot see: the system calls of all threads and processes."""
    trace = shutil.which("strace")
    if trace is None:
        pytest.skip("strace is not installed")
    calls = ["socket", "connect", "bind", "sendto", "sendmsg"]
    log = folder / "calls.log"
    command = [trace, "-f", "-qq", "-e", f"trace={','.join(calls)}", "-o", str(log), sys.executable]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    tried = subprocess.run([*command, "-c", "pass"], capture_output=True, text=True, timeout=60)
    if tried.returncode:
        pytest.skip(f"strace may not trace here: {tried.stderr.strip()[:200]}")
    done = subprocess.run(
        [*command, *COMMANDS[name]], cwd=folder, env=environment, capture_output=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert re.findall(r".*AF_INET6?.*", log.read_text()) == []


# FFmpeg, which would open what a name or a file tells it to


class Listener:
    """A server that counts who comes, and answers nobody."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.visits = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                visitor, _ = self._socket.accept()
            except OSError:
                return  # closed
            self.visits += 1
            visitor.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    server = Listener()
    yield server
    server.close()


def test_the_listener_counts_who_comes_and_ffmpeg_would_come(
    listener: Listener, tmp_path: Path
) -> None:
    """Opened as it must not be: by name, and a playlist without an allow-list."""
    address = f"http://127.0.0.1:{listener.port}/a.mp4"
    with pytest.raises((urllib.error.URLError, OSError)):
        urllib.request.urlopen(address, timeout=2)
    assert listener.visits == 1
    with pytest.raises((av.FFmpegError, OSError)):
        av.open(address, timeout=2)
    seen = listener.visits
    assert seen > 1
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{address[:-3]}ts\n")
    allowed = {"protocol_whitelist": "file,http,tcp"}
    with pytest.raises((av.FFmpegError, OSError)):
        av.open(str(playlist), options=allowed, timeout=2)
    assert listener.visits > seen


NAMES = [
    *("http://{}/a.mp4", "https://{}/a.mp4", "tcp://{}", "udp://{}", "rtmp://{}/a", "rtsp://{}/a"),
    *("rtp://{}", "ftp://{}/a.mp4", "hls+http://{}/a.m3u8", "mmsh://{}/a", "tls://{}", "srt://{}"),
    *("concat:http://{}/a.mp4", "async:http://{}/a.mp4", "cache:http://{}/a.mp4"),
    *("crypto:http://{}/a.mp4", "subfile,,start,0,end,9,,:http://{}/a.mp4"),
    *("tee:http://{}/a.mp4", "httpproxy://{}/a", "gopher://{}/a", "icecast://{}/a", "data:{}"),
]
CONTENTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://{}/a.ts\n#EXT-X-ENDLIST\n",
    "key.m3u8": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="http://{}/k"\n#EXTINF:5,\nhttp://{}/a.ts\n',
    "list.ffconcat": "ffconcat version 1.0\nfile 'http://{}/a.mp4'\n",
    "dash.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT5S"><Period><AdaptationSet><Representation id="1" '
    'bandwidth="1" mimeType="video/mp4"><BaseURL>http://{}/a.mp4</BaseURL><SegmentBase/>'
    "</Representation></AdaptationSet></Period></MPD>",
    "talk.sdp": "v=0\no=- 0 0 IN IP4 {host}\ns=a\nc=IN IP4 {host}\nt=0 0\n"
    "m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "redirect.asx": '<asx version="3.0"><entry><ref href="http://{}/a.wmv"/></entry></asx>',
    "redirect.ram": "rtsp://{}/a.rm\n",
    "rtsptext.mov": "rtsptextrtsp://{}/a.mov\n",
    "list.pls": "[playlist]\nFile1=http://{}/a.mp3\nNumberOfEntries=1\n",
    "picture.svg": '<svg xmlns="http://www.w3.org/2000/svg"><image href="http://{}/a.png"/></svg>',
    "input.vpy": "import urllib.request; urllib.request.urlopen('http://{}/')",
}


def filled(text: str, port: int) -> str:
    return (
        text.replace("{}", f"127.0.0.1:{port}")
        .replace("{host}", "127.0.0.1")
        .replace("{port}", str(port))
    )


def elsewhere(sample: bytes, address: str) -> bytes:
    """The sample, its tracks' data said to lie at an address (QuickTime's data reference)."""
    data, new = sample, b"url \0\0\0\0" + address.encode() + b"\0"
    at = 0
    while (at := data.find(b"url \0\0\0\1", at)) >= 0:
        size, kept = 4 + len(new), data
        data = data[: at - 4] + size.to_bytes(4, "big") + new + data[at + 8 :]
        for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
            box = kept.rfind(kind, 0, at) - 4
            length = int.from_bytes(data[box : box + 4], "big") + size - 12
            data = data[:box] + length.to_bytes(4, "big") + data[box + 4 :]
        at += len(new)
    return data


def test_no_name_and_no_file_makes_it_reach_an_address(
    listener: Listener, detector: Detector, tmp_path: Path, sample_path: Path
) -> None:
    for name in NAMES:
        answer = detector.predict(filled(name, listener.port))
        assert (answer.status, answer.reason) == ("error", "not_found"), name
    for name, text in CONTENTS.items():
        for suffix in ("", ".mp4"):
            path = tmp_path / (name + suffix)
            path.write_text(filled(text, listener.port))
            answer = detector.predict(path)
            assert (answer.status, answer.reason) == ("error", "not_media"), path.name
    path = tmp_path / "elsewhere.mov"
    path.write_bytes(elsewhere(sample_path.read_bytes(), f"http://127.0.0.1:{listener.port}/a"))
    assert path.stat().st_size > sample_path.stat().st_size
    detector.predict(path)
    assert listener.visits == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "{}"),
        ("predict", "{}", "--json"),
        ("submit", "{}"),
        ("submit", "clips", "--sample", "{}"),
        ("batch", "{}", "--out", "rows.jsonl"),
        ("batch", "--list", "{}", "--out", "rows.jsonl"),
        ("batch", "--list", "names.txt", "--out", "rows.jsonl"),
        ("info", "--bundle", "{}"),
        ("predict", "clips/sample.mp4", "--bundle", "{}"),
        ("predict", "clips/sample.mp4", "--face-model", "{}"),
    ],
)
def test_no_argument_makes_it_reach_an_address(
    listener: Listener, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(folder)
    address = f"http://127.0.0.1:{listener.port}/a.mp4"
    (folder / "names.txt").write_text(f"{address}\n")
    assert main([argument.replace("{}", address) for argument in arguments]) in (1, 2)
    assert listener.visits == 0


# The folder that it is started in


@pytest.mark.parametrize("name", ["predict", "report", "submit", "batch"])
def test_nothing_is_imported_from_the_folder_where_the_clips_are(
    folder: Path, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Workers start as `python -c`, which looks for modules in the current folder first."""
    planted = "import os\nopen(os.environ['IMPORTED'], 'a').write(__name__ + '\\n')\n"
    # Names that a worker imports early, before or after the standard library's own.
    for module in (
        "struct",
        "json",
        "pickle",
        "signal",
        "numpy",
        "av",
        "onnxruntime",
        "usercustomize",
    ):
        (folder / f"{module}.py").write_text(planted)
    for package in ("multiprocessing", "avfake"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text(planted)
    log = folder / "imported.log"
    # As the installed command: a script whose own folder is looked in, and not the current one.
    script = tmp_path_factory.mktemp("bin") / "start.py"
    start = "import sys\nfrom avfake.cli import main\n"
    script.write_text(f"{start}if __name__ == '__main__':\n    sys.exit(main())\n")
    _, _, *arguments = COMMANDS[name]
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=folder,
        env=os.environ | {"IMPORTED": str(log), "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert not log.exists(), log.read_text()
