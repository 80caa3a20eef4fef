"""Little memory, a root that cannot be written, no home folder, and 16 MB for temporary files."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from gptctl.core import cache_folder
from tests.conftest import REPO, Ran, documents, plain_environment, write_jsonl

MOUNTS = (Path("/mnt"), Path("/srv"))  # for the repository and for the working folder
UNSHARE = ["unshare", "--user", "--map-root-user", "--mount", "--propagation", "private"]
# The root and the repository become read-only. Then the user becomes nobody.
BOX = """
set -e
mount --bind "$REPO" /mnt
mount -t tmpfs -o size=200m,mode=1777 tmpfs /srv
cp -r "$WORK" /srv/work
mount -t tmpfs -o size=16m,mode=1777 tmpfs /tmp
mount -o remount,bind,ro /mnt
mount -o remount,bind,ro /
cd /srv/work
exec unshare --user --map-user=65534 --map-group=65534 env -i HOME=/nonexistent LANG=C PATH=/usr/bin:/bin \
    PYTHONPATH=/mnt PYTHON="$PYTHON" bash -c "ulimit -v 2097152; $SCRIPT"
"""
CHAIN = """
gptctl() { "$PYTHON" -m gptctl "$@"; }
set -e
gptctl clean raw.jsonl -o clean
gptctl dedup clean -o unique
gptctl clean raw.jsonl -o - | gptctl dedup - -o - | gptctl tokenize - -o piped --vocab-size 300
gptctl tokenize unique -o tokens --vocab-size 320 --val 0.1 --test 0.1
gptctl pretrain tokens -o run --preset test-modern --steps 20
gptctl generate run Once --max-tokens 3
gptctl finetune run labelled -o classifier --epochs 1
gptctl eval classifier labelled -o scores
gptctl report scores -o report.html
gptctl doctor scores --lineage
id -u; touch /root-is-read-only || echo read-only
"""


def may_unshare() -> bool:
    """Return whether this user may make the namespaces, and there is where to mount."""
    if not shutil.which("unshare") or not all(path.is_dir() for path in MOUNTS):
        return False
    if REPO.is_relative_to(MOUNTS[1]) or Path(sys.prefix).is_relative_to(tempfile.gettempdir()):
        return False
    return subprocess.run([*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/srv"], capture_output=True).returncode == 0


@pytest.mark.slow
def test_a_container(workspace: Path, tmp_path: Path) -> None:
    """README's chain: uid 65534, a read-only root, HOME=/nonexistent, LANG=C, a /tmp of 16 MB, `ulimit -v` 2 GB."""
    if not may_unshare():
        pytest.skip("user and mount namespaces are not permitted here")
    write_jsonl(tmp_path / "raw.jsonl", documents(150))
    shutil.copytree(workspace / "labelled", tmp_path / "labelled")
    environment = plain_environment() | {
        "REPO": str(REPO), "WORK": str(tmp_path), "PYTHON": sys.executable, "SCRIPT": CHAIN,
    }  # fmt: skip
    done = subprocess.run([*UNSHARE, "bash", "-c", BOX], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("65534\nread-only\n")
    assert "Traceback" not in done.stderr and "matplotlib" not in done.stderr.lower()
    # clean and dedup compile different kernels, each once: later commands find them in /tmp.
    said = "compiling (once): the compiled code is kept in /tmp/gptctl-65534/kernels"
    assert done.stderr.count(said) == done.stderr.count("compiling") == 2, done.stderr


def limited(kilobytes: int, *args: str) -> Ran:
    """Run gptctl with a limit of address space."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (kilobytes * 1024, kilobytes * 1024))

    done = subprocess.run(
        [sys.executable, "-m", "gptctl", *args], env=plain_environment(), capture_output=True, preexec_fn=limit
    )
    return Ran(done.returncode, done.stdout, done.stderr.decode())


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS does not limit address space")
def test_too_little_address_space_is_said_before_a_library_aborts() -> None:
    done = limited(400_000, "doctor")
    assert done.code == 4
    assert done.error_lines[0].startswith("error: out of memory: the limit of this process is 409.6 MB")
    assert "ulimit -v" in done.error_lines[1]
    assert limited(400_000, "--help").code == 0


def test_places_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cached files go to a folder for temporary files that nobody else can write."""
    monkeypatch.delenv("GPTCTL_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own = tmp_path / f"gptctl-{os.getuid()}"
    assert cache_folder.cache_folder() == own == cache_folder.cache_folder()
    assert own.stat().st_mode & 0o777 == 0o700
    own.chmod(0o777)
    assert cache_folder.cache_folder() not in (own, tmp_path)
    monkeypatch.setenv("GPTCTL_CACHE", str(tmp_path / "given"))
    assert cache_folder.cache_folder() == tmp_path / "given"


def test_temporary_files_in_the_output(tmp_path: Path) -> None:
    """They are there if no other folder can be written, and gone at the end; the output can be made all the same."""
    write_jsonl(tmp_path / "raw.jsonl", documents(20))
    code = (
        "import sys, tempfile; tempfile._candidate_tempdir_list = lambda: ['raw.jsonl'];"
        "from gptctl.__main__ import main; sys.argv[0] = 'gptctl'; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "clean", "raw.jsonl", "-o", "clean", "--executor", "serial"],
        cwd=tmp_path, env=plain_environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "clean").glob("*.tmp-*"))
    assert (tmp_path / "clean" / "manifest.json").exists()
