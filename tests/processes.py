"""What tests ask of processes."""

from __future__ import annotations

import time

import psutil


def gone(pid: int, patience: float = 10.0) -> bool:
    """Whether a process has ended, or does so in time."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False
