"""What `avfake serve` was told."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

from avfake.limits import Limits
from avfake.types import AvfakeError
from avfake.workers import Models

MIN_TOKEN = 16
"""Characters that a token has at least: shorter ones can be tried out."""


@dataclass(frozen=True)
class Settings:
    """How one server runs.

    `host`, `port`: where it listens (port 0: a free one); `token`: what every request of the API
    must bring along, None for none, which only a loopback address may have; `names`: host names,
    without ports, under which it may be asked for besides its own address. `workers`: clips judged
    side by side, `queue`: clips that may wait; `keep`: seconds that a clip's files outlive the last
    question about it; `timeout`: seconds for judging one clip. `models`: what the workers load,
    limits included.

    Raises AvfakeError `usage`.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = None
    names: tuple[str, ...] = ()
    workers: int = 1
    queue: int = 8
    keep: float = 3600.0
    timeout: float = 1200.0
    models: Models = field(default_factory=Models)

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise AvfakeError(
                "usage",
                f"{self.host} can be reached from other machines: serving there needs a token, "
                "in the environment variable AVFAKE_TOKEN or by --token.",
            )
        if self.token is not None and not (
            len(self.token) >= MIN_TOKEN and self.token.isascii() and self.token.isprintable()
        ):
            raise AvfakeError(
                "usage", f"A token has at least {MIN_TOKEN} characters, all of them plain ASCII."
            )
        for name in self.names:
            if not re.fullmatch(r"[a-z0-9._-]+", name, re.IGNORECASE | re.ASCII):
                text = f"'{name}' is no host name, which has neither a scheme nor a port."
                raise AvfakeError("usage", text)

    @property
    def limits(self) -> Limits:
        return self.models.limits


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address; a name other than localhost may be any."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
