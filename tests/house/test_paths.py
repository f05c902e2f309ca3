"""A folder that one run at a time works in."""

from __future__ import annotations

import subprocess
import sys

import pytest

from grasp_nodes.errors import InputError
from grasp_nodes.paths import working_alone

OTHER = """
import sys
from pathlib import Path
from grasp_nodes.errors import InputError
from grasp_nodes.paths import working_alone
try:
    with working_alone(Path(sys.argv[1])):
        print("alone")
except InputError as error:
    print(error)
"""


def another_process(folder) -> str:
    return subprocess.run([sys.executable, "-c", OTHER, str(folder)], capture_output=True, text=True, check=True).stdout


def test_a_second_run_is_refused_until_the_first_ends(tmp_path):
    folder = tmp_path / "made" / "here"
    with working_alone(folder):
        assert "another run is at work" in another_process(folder)
        with pytest.raises(InputError, match=str(folder)), working_alone(folder):
            pass
    assert another_process(folder).strip() == "alone"


def test_a_folder_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"), working_alone(tmp_path / "file" / "folder"):
        pass
