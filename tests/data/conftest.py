"""Where the real data lie; the tests that need them are skipped where they are absent."""

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from PIL import features

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path.home() / ".cache" / "espalier-tests"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets: ``ESPALIER_DATA``, else ``../shared/data``."""
    folder = Path(os.environ.get("ESPALIER_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; set ESPALIER_DATA")
    return folder


@pytest.fixture(scope="session")
def cifar10_folder(real_data: Path) -> Path:
    """CIFAR-10's binary batches, unpacked once to a cache outside the repository."""
    script = real_data / "cifar10" / "unpack_cifar10.py"
    target = CACHE / "cifar-10-batches-bin"
    if target.is_dir():
        return CACHE
    if not script.is_file():
        pytest.skip(f"no {script}")
    if not features.check("avif"):
        pytest.skip("this Pillow cannot read AVIF")
    CACHE.mkdir(parents=True, exist_ok=True)
    spec = importlib.util.spec_from_file_location("unpack_cifar10", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # Aside first, then moved as a whole: another test process may be at it too.
    aside = Path(tempfile.mkdtemp(dir=CACHE))
    try:
        os.rename(module.unpack(str(aside)), target)
    except OSError:
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(aside)
    return CACHE
