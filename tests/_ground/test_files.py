"""What is written replaces files, and nothing but files."""

import os
import stat

import pytest

from espalier._ground.files import write_bytes
from espalier.errors import RunFolderError


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes by name")
def test_a_pipe_and_a_folder_stay_what_they_are(tmp_path):
    pipe, folder = tmp_path / "pipe", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    for path in (pipe, folder):
        with pytest.raises(RunFolderError, match="device is there, and no file"):
            write_bytes(path, b"x")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert {file.name for file in tmp_path.iterdir()} == {"pipe", "folder"}


def test_a_refusal_names_the_file_that_was_asked_for_and_not_the_temporary_one(tmp_path):
    with pytest.raises(RunFolderError) as refused:
        write_bytes(tmp_path / "absent" / "out.bin", b"x")
    assert ".tmp" not in str(refused.value)
    assert "No such file or directory" in str(refused.value)
