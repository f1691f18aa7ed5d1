"""On what and with what a run was made."""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("espalier", "torch", "numpy", "safetensors", "pydantic")


def environment() -> dict[str, Any]:
    """Versions, hardware and the commit of the working directory, as JSON has it."""
    return {
        "versions": {"python": platform.python_version(), **versions(*_PACKAGES)},
        "hardware": hardware(),
        "git_commit": commit(Path.cwd()),
        "arguments": sys.argv[1:],
    }


def hardware() -> dict[str, Any]:
    """The machine, as JSON has it."""
    return {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def versions(*packages: str) -> dict[str, str]:
    """Of those packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def commit(folder: Path) -> str | None:
    """The commit of the git repository ``folder`` is in, ``+`` after it if files differ; else None."""
    try:
        command = [
            "git",
            "-C",
            str(folder),
            "describe",
            "--always",
            "--dirty=+",
            "--abbrev=12",
            "--exclude=*",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
