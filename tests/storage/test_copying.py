from __future__ import annotations

import hashlib
import os
import signal
import socket
import sys
from pathlib import Path
from threading import Event, Thread

import pytest

from nexa_contracts.errors import StorageError
from nexa_infra.process import SystemRunner
from nexa_infra.storage.copying import SourceFile, copy_tree, hash_file, hash_tree, list_tree

SIZES = (0, 1, 4095, 1024 * 1024, 4 * 1024 * 1024 - 1, 4 * 1024 * 1024, 9 * 1024 * 1024 + 7)
"""Around the buffer, and around the size from which a file gets threads of its own."""

SCARCE_THREADS = """
import sys, threading
from pathlib import Path
from nexa_infra.storage.copying import copy_tree, list_tree

class Scarce(threading.Thread):
    def start(self):
        if self.name.startswith("copy-pipe_1"):
            raise RuntimeError("can't start new thread")
        super().start()

threading.Thread = Scarce
source, target = map(Path, sys.argv[1:])
try:
    copy_tree(source, target, files=list_tree(source))
except RuntimeError as error:
    print(error)
"""
"""In a process of its own, because it replaces a part of Python."""


def make_tree(folder: Path, sizes: tuple[int, ...] = SIZES) -> Path:
    for number, size in enumerate(sizes):
        path = folder / ("deep/er" if number % 2 else ".") / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    return folder


@pytest.mark.parametrize("sizes", [SIZES, SIZES[-1:], (10,) * 40, (10,) * 300])
def test_the_copy_and_its_digests_are_those_of_the_bytes(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    source, target = make_tree(tmp_path / "source", sizes), tmp_path / "target"
    target.mkdir()
    files = list_tree(source)
    digests = copy_tree(source, target, files=files)
    assert digests == hash_tree(target, list_tree(target))
    for file, digest in zip(files, digests, strict=True):
        content = (source / file.path).read_bytes()
        assert (target / file.path).read_bytes() == content
        assert (digest.path, digest.size_bytes) == (file.path, len(content))
        assert digest.sha256 == hashlib.sha256(content).hexdigest()


def test_programs_stay_programs(tmp_path: Path) -> None:
    source, target = make_tree(tmp_path / "source", (10,)), tmp_path / "target"
    (source / "0.bin").chmod(0o750)
    target.mkdir()
    copy_tree(source, target, files=list_tree(source))
    assert (target / "0.bin").stat().st_mode & 0o777 == 0o750


def test_files_are_listed_by_path_with_their_size(tmp_path: Path) -> None:
    make_tree(tmp_path, (3, 4, 5))
    (tmp_path / "empty").mkdir()
    assert list_tree(tmp_path) == (SourceFile("0.bin", 3), SourceFile("2.bin", 5), SourceFile("deep/er/1.bin", 4))


@pytest.mark.parametrize("kind", ["link to a file", "link to a folder", "dangling link", "pipe", "socket"])
def test_what_is_not_a_file_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    tree = make_tree(tmp_path / "tree", (3,))
    odd = tree / "odd"
    match kind:
        case "link to a file":
            odd.symlink_to(tree / "0.bin")
        case "link to a folder":
            odd.symlink_to(tmp_path)
        case "dangling link":
            odd.symlink_to(tmp_path / "nowhere")
        case "pipe":
            os.mkfifo(odd)
        case "socket":
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(os.path.relpath(odd))  # an absolute path may be too long for a socket's name
    with pytest.raises(StorageError, match=r"odd is (a symbolic link|not a regular file)"):
        list_tree(tree)


def test_a_name_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9")).write_bytes(b"")
    with pytest.raises(StorageError, match="not a UTF-8 name"):
        list_tree(tmp_path)


@pytest.mark.parametrize("size_bytes", [5, 5 * 1024 * 1024])
@pytest.mark.parametrize("listed_bytes", [4, 6, 4 * 1024 * 1024, 6 * 1024 * 1024])
def test_a_file_that_changes_while_it_is_copied_is_an_error(tmp_path: Path, size_bytes: int, listed_bytes: int) -> None:
    source, target = make_tree(tmp_path / "source", (size_bytes,)), tmp_path / "target"
    target.mkdir()
    listed = SourceFile("0.bin", listed_bytes)
    with pytest.raises(StorageError, match="it changes while it is read"):
        copy_tree(source, target, files=(listed,))
    with pytest.raises(StorageError, match="it changes while it is read"):
        hash_file(source / "0.bin", listed)


def test_one_missing_file_of_many_is_the_error(tmp_path: Path) -> None:
    source, target = make_tree(tmp_path / "source", (100,) * 30), tmp_path / "target"
    target.mkdir()
    files = list_tree(source)
    (source / files[17].path).unlink()
    with pytest.raises(StorageError, match=files[17].path):
        copy_tree(source, target, files=files)


@pytest.mark.parametrize("listed_bytes", [5, 5 * 1024 * 1024])
def test_a_source_that_cannot_be_read_is_named_and_not_the_target(tmp_path: Path, listed_bytes: int) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "odd").mkdir(parents=True)  # opens like a file, and fails when it is read
    target.mkdir()
    with pytest.raises(StorageError, match=rf"^{source / 'odd'}: reading failed: is a directory"):
        copy_tree(source, target, files=(SourceFile("odd", listed_bytes),))


def test_an_interrupted_copy_leaves_the_files_it_has_not_begun(tmp_path: Path) -> None:
    files = tuple(SourceFile(str(number), 0) for number in range(100))
    target = tmp_path / "target"
    target.mkdir()
    for file in files:
        os.mkfifo(tmp_path / file.path)  # whoever reads it waits until it is let go
    told, over, begun = Event(), Event(), set[str]()

    def interrupt(*_: object) -> None:
        told.set()
        raise KeyboardInterrupt

    def let_go(file: SourceFile) -> None:
        try:
            os.close(os.open(tmp_path / file.path, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return  # nobody reads it
        begun.add(file.path)

    def feed() -> None:
        while not begun:
            let_go(files[0])
        os.kill(os.getpid(), signal.SIGINT)
        told.wait(60)
        over.wait(0.5)  # for the interrupted thread to say so to the others
        while not over.wait(0.01):
            for file in files:
                let_go(file)

    before = signal.signal(signal.SIGINT, interrupt)
    feeder = Thread(target=feed)
    feeder.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            copy_tree(tmp_path, target, files=files)
    finally:
        over.set()
        feeder.join()
        signal.signal(signal.SIGINT, before)
    assert len(begun) < len(files)


def test_nothing_in_the_target_is_written_over(tmp_path: Path) -> None:
    source, target = make_tree(tmp_path / "source", (100,)), tmp_path / "target"
    target.mkdir()
    (target / "0.bin").write_bytes(b"mine")
    with pytest.raises(StorageError, match="exists"):
        copy_tree(source, target, files=list_tree(source))
    assert (target / "0.bin").read_bytes() == b"mine"


def test_a_machine_that_gives_no_more_threads_fails_the_copy_instead_of_holding_it_up(tmp_path: Path) -> None:
    source, target = make_tree(tmp_path / "source", (50 * 1024 * 1024,)), tmp_path / "target"
    target.mkdir()
    ended = SystemRunner().run([sys.executable, "-c", SCARCE_THREADS, str(source), str(target)], timeout_s=60.0)
    assert ended.stdout == "can't start new thread\n", ended.stderr
