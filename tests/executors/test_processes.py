"""Worker processes import nothing from the current folder that the parent process would not import."""

from multiprocessing import forkserver
from pathlib import Path

import pytest

from gptctl.executors import processes


def test_the_fork_server_imports_no_file_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyarrow.py").write_text("from pathlib import Path\nPath('imported').touch()\n")
    monkeypatch.chdir(tmp_path)
    server = forkserver.ForkServer()
    monkeypatch.setattr(forkserver, "ensure_running", server.ensure_running)
    monkeypatch.setattr(forkserver, "set_forkserver_preload", server.set_forkserver_preload)
    processes.start_server(())
    server._stop()  # type: ignore[attr-defined]  # waits until the server has ended, after its imports
    assert not (tmp_path / "imported").exists()
