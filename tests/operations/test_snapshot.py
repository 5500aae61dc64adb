"""A snapshot is named by its content, holds what git would, and cannot be changed unseen."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from nexa_contracts.clock import SystemClock
from nexa_contracts.errors import ConfigError, EvidenceMissing, NotFound
from nexa_infra.operations import snapshot
from nexa_infra.operations.snapshot import describe_snapshot, read_code, unpack_snapshot, write_snapshot
from nexa_infra.operations.snapshot_names import find_snapshot
from nexa_infra.process import SystemRunner
from nexa_infra.storage.layout import Project, Tiers
from nexa_infra.storage.tiers import init_tiers

RUNNER = SystemRunner()
SECRETS = [
    ".env", "prod.env", ".ENV.local", "server.pem", "id_rsa", "id_ecdsa", "deploy_ed25519", "server.key", "cert.p12",
    "CERT.PFX", ".netrc", ".pgpass", ".git-credentials", ".npmrc", ".dockercfg", ".docker/config.json", ".kube/config",
    "kubeconfig", ".aws/credentials", ".ssh/config", "sub/credentials-prod.json", "credentials.yaml", "secrets.toml",
    "service-account-1.json", "client_secret_2.json", "kaggle.json", "terraform.tfvars", "state/terraform.tfstate",
]  # fmt: skip
CODE = [
    "credentials.py", "secrets.py", "config.json", "docker/config.json", "keys.py", "tokenizer.json",
    "environment.yaml", "rsa.py", "kube/config.yaml", "token.py", "public.txt",
]  # fmt: skip


def git(root: Path, *arguments: str) -> None:
    RUNNER.run(["git", "-C", str(root), *arguments], timeout_s=30).require_success()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "train.py").write_text("print('one')\n")
    (folder / ".gitignore").write_text("/ignored/\n/storage/\n")
    return folder


@pytest.fixture
def tiers(tmp_path: Path) -> Tiers:
    made = Tiers(tmp_path / "scratch", tmp_path / "durable", tmp_path / "shared")
    init_tiers(made, clock=SystemClock())
    return made


def test_the_digest_follows_content_and_not_time(root: Path) -> None:
    first = read_code(root, runner=RUNNER).record.snapshot
    (root / "train.py").touch()
    assert read_code(root, runner=RUNNER).record.snapshot == first
    (root / "train.py").write_text("print('two')\n")
    assert read_code(root, runner=RUNNER).record.snapshot != first
    (root / "train.py").write_text("print('one')\n")
    (root / "train.py").chmod(0o755)
    assert read_code(root, runner=RUNNER).record.snapshot != first


def test_outside_git_the_record_says_unknown_and_not_clean(root: Path) -> None:
    record = read_code(root, runner=RUNNER).record
    assert (record.commit, record.is_dirty) == (None, None)
    assert record.snapshot_files == 2


def test_in_git_the_commit_and_every_change_are_recorded(root: Path) -> None:
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "one")
    clean = read_code(root, runner=RUNNER).record
    assert clean.commit is not None
    assert clean.is_dirty is False
    (root / "train.py").write_text("print('two')\n")
    edited = read_code(root, runner=RUNNER).record
    assert edited.is_dirty is True
    (root / "new.py").write_text("x = 1\n")
    added = read_code(root, runner=RUNNER).record
    assert added.snapshot_files == 3
    assert len({clean.snapshot, edited.snapshot, added.snapshot}) == 3
    assert edited.diff_sha256 != added.diff_sha256


def test_runs_and_ignored_files_change_nothing(root: Path) -> None:
    git(root, "init", "-q")
    before = read_code(root, runner=RUNNER).record
    for name in ("runs/manifests/run_x.json", "ignored/big.bin"):
        path = root / name
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    after = read_code(root, runner=RUNNER).record
    assert after.snapshot == before.snapshot
    assert after.is_dirty == before.is_dirty


@pytest.mark.parametrize("name", CODE)
def test_what_only_sounds_like_a_secret_is_kept(root: Path, name: str) -> None:
    (root / name).parent.mkdir(exist_ok=True, parents=True)
    (root / name).write_text("x = 1")
    assert read_code(root, runner=RUNNER).record.left_out == ()


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_are_left_out_and_named(root: Path, name: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("secret")
    record = read_code(root, runner=RUNNER).record
    assert record.left_out == (name,)
    assert record.snapshot_files == 2


def test_a_link_that_leads_out_is_left_out_and_one_inside_is_kept(root: Path) -> None:
    (root / "inside").symlink_to("train.py")
    (root / "outside").symlink_to("/etc/hostname")
    record = read_code(root, runner=RUNNER).record
    assert record.left_out == ("outside",)
    assert record.snapshot_files == 3


def test_unpacking_gives_the_same_files(root: Path, tmp_path: Path, tiers: Tiers) -> None:
    (root / "inside").symlink_to("train.py")
    project = Project(tmp_path / "project")
    state = read_code(root, runner=RUNNER)
    folder = write_snapshot(state, project, tiers)
    assert (folder / "train.py").read_text() == "print('one')\n"
    assert (folder / "inside").readlink() == Path("train.py")
    assert write_snapshot(state, project, tiers) == folder


def test_a_damaged_snapshot_is_refused(root: Path, tmp_path: Path, tiers: Tiers) -> None:
    state = read_code(root, runner=RUNNER)
    write_snapshot(state, Project(tmp_path / "one"), tiers)
    archive = tiers.snapshot(state.record.snapshot)
    (tmp_path / "evil.py").write_text("evil")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "evil.py", "train.py")
    with pytest.raises(EvidenceMissing, match="does not match its digest"):
        unpack_snapshot(state.record.snapshot, Project(tmp_path / "two"), tiers)
    assert not Project(tmp_path / "two").snapshot(state.record.snapshot).exists()


@pytest.mark.parametrize("size", [0, 20, -20_000])
def test_a_cut_off_snapshot_is_refused_by_name(root: Path, tmp_path: Path, tiers: Tiers, size: int) -> None:
    (root / "large.py").write_bytes(b"# %b" % os.urandom(50_000))
    state = read_code(root, runner=RUNNER)
    write_snapshot(state, Project(tmp_path / "one"), tiers)
    archive = tiers.snapshot(state.record.snapshot)
    archive.write_bytes(archive.read_bytes()[:size])
    with pytest.raises(EvidenceMissing, match="the code snapshot is damaged"):
        unpack_snapshot(state.record.snapshot, Project(tmp_path / "two"), tiers)
    assert not Project(tmp_path / "two").snapshot(state.record.snapshot).exists()


def test_looking_at_the_code_does_not_touch_the_checkout(root: Path) -> None:
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "one")
    (root / "train.py").touch()
    index = (root / ".git" / "index").read_bytes()
    assert read_code(root, runner=RUNNER).record.is_dirty is False
    assert (root / ".git" / "index").read_bytes() == index


def test_an_unknown_snapshot_is_named(tmp_path: Path, tiers: Tiers) -> None:
    with pytest.raises(EvidenceMissing, match="is not on durable"):
        unpack_snapshot("0" * 64, Project(tmp_path), tiers)


def test_a_file_changed_between_reading_and_packing_is_noticed(root: Path, tmp_path: Path, tiers: Tiers) -> None:
    state = read_code(root, runner=RUNNER)
    (root / "train.py").write_text("print('three')\n")
    with pytest.raises(EvidenceMissing, match="changed while it was being read"):
        write_snapshot(state, Project(tmp_path / "project"), tiers)


def test_a_folder_too_large_to_be_code_says_what_to_do(root: Path) -> None:
    for number in range(snapshot.MAX_TOTAL_BYTES // snapshot.MAX_FILE_BYTES + 2):
        with (root / f"{number}.bin").open("wb") as stream:
            stream.truncate(snapshot.MAX_FILE_BYTES)
    with pytest.raises(ConfigError, match=r"nexa\.yaml into the project's own folder"):
        read_code(root, runner=RUNNER)


@pytest.mark.parametrize("is_git", [True, False])
def test_what_runs_leave_in_tiers_inside_the_project_is_no_code(root: Path, is_git: bool) -> None:
    # Snapshots stand in durable: each would hold all earlier ones.
    if is_git:
        git(root, "init", "-q")
    inside = Tiers(root / "tiers" / "scratch", root / "tiers" / "durable", root / "tiers" / "a*b")
    folders = (inside.scratch, inside.durable, inside.shared)
    before = read_code(root, runner=RUNNER, without=folders).record
    init_tiers(inside, clock=SystemClock())
    write_snapshot(read_code(root, runner=RUNNER, without=folders), Project(root), inside)
    assert read_code(root, runner=RUNNER, without=folders).record == before


def test_a_checkout_inside_the_project_is_named_as_left_out(root: Path) -> None:
    git(root, "init", "-q")
    (root / "inner").mkdir()
    git(root / "inner", "init", "-q")
    (root / "inner" / "code.py").touch()
    assert read_code(root, runner=RUNNER).record.left_out == ("inner/",)


def test_a_name_that_is_no_text_does_not_break_the_record(root: Path) -> None:
    git(root, "init", "-q")
    (root / os.fsdecode(b"l\xe9nk")).symlink_to("/elsewhere")
    record = read_code(root, runner=RUNNER).record
    assert record.left_out == ("l\ufffdnk",)


def test_a_snapshot_keeps_the_commit_it_was_taken_at_and_who_it_was_taken_for(root: Path, tiers: Tiers) -> None:
    git(root, "init", "-q", "-b", "main")
    git(root, "add", ".")
    git(root, "commit", "-qm", "one")
    state = read_code(root, runner=RUNNER)
    write_snapshot(state, Project(root), tiers, taken_for="run_a")
    (root / "train.py").write_text("print('two')\n")
    now = read_code(root, runner=RUNNER).record
    record = describe_snapshot(state.record.snapshot, tiers, like=now)
    assert record == state.record.model_copy(update={"taken_for": "run_a"})
    assert record.commit is not None
    tiers.snapshot_record(state.record.snapshot).write_text("{")
    assert describe_snapshot(state.record.snapshot, tiers, like=now).commit is None


def test_a_snapshot_is_found_by_the_beginning_of_its_digest(root: Path, tiers: Tiers) -> None:
    state = read_code(root, runner=RUNNER)
    write_snapshot(state, Project(root), tiers)
    digest = state.record.snapshot
    assert find_snapshot(digest[:16], tiers) == find_snapshot(digest, tiers) == digest
    for text in ("", "x", "../x", digest + "0"):
        with pytest.raises(NotFound, match="begins so"):
            find_snapshot(text, tiers)
    other = digest[:16] + "f" * 48
    tiers.snapshot(other).write_bytes(b"")
    with pytest.raises(ConfigError, match="begins 2 code snapshots"):
        find_snapshot(digest[:16], tiers)
