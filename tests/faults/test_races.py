from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nexa_contracts.clock import SystemClock
from nexa_infra.process import SystemRunner
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.seal import read_seal, verify_seal
from nexa_infra.storage.tiers import init_tiers

RUN_ID = "run_20260102_030405_race"
RACERS = 8
PROGRAM = """
import json, sys
from pathlib import Path
from nexa_contracts.clock import SystemClock
from nexa_contracts.errors import AlreadyExists
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.promote import ArtifactLabel, promote_folder
from nexa_infra.storage.recovery import recover_promotions
root, source, run_id = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
tiers = Tiers(root / "scratch", root / "durable", root / "shared")
print("ready", flush=True)
sys.stdin.readline()
recover_promotions(tiers, clock=SystemClock())
try:
    manifest = promote_folder(source, ArtifactLabel.of_model(run_id), tiers=tiers, clock=SystemClock())
    print(json.dumps([manifest.seal_sha256, manifest.promoted_at.isoformat()]))
except AlreadyExists as error:
    print(json.dumps(["exists", str(error)]))
recover_promotions(tiers, clock=SystemClock())
"""


def race(tiers: Tiers, sources: list[Path]) -> list[list[str]]:
    """Promote every source to one name, all at the same moment; return what each process said."""
    starter = SystemRunner()
    root = str(tiers.durable.parent)
    children = [
        starter.start([sys.executable, "-c", PROGRAM, root, str(source), RUN_ID], output="pipes", env=os.environ)
        for source in sources
    ]
    for child in children:
        assert child.stdout.readline() == b"ready\n"
    for child in children:
        child.stdin.write(b"go\n")
        child.stdin.flush()
    with ThreadPoolExecutor(RACERS) as readers:
        said = [json.loads(line) for line in readers.map(lambda child: child.stdout.readline(), children)]
    for child in children:
        assert child.wait(120) == 0
        child.close()
    return said


def make_source(tiers: Tiers, number: int, content: bytes) -> Path:
    source = tiers.checkpoints_temp(RUN_ID) / f"final-{number}"
    (source / "deep").mkdir(parents=True)
    (source / "model.bin").write_bytes(content * 300_000)
    (source / "deep" / "config.json").write_bytes(b"{}")
    return source


def make_tiers(folder: Path) -> Tiers:
    tiers = Tiers(folder / "scratch", folder / "durable", folder / "shared")
    init_tiers(tiers, clock=SystemClock())
    return tiers


def assert_settled(tiers: Tiers) -> None:
    verify_seal(tiers.checkpoint(RUN_ID))
    assert [path.name for path in tiers.checkpoints.iterdir()] == [RUN_ID]
    assert list(tiers.intents.iterdir()) == []


def test_of_eight_that_promote_the_same_all_get_the_one_artifact(tmp_path: Path) -> None:
    tiers = make_tiers(tmp_path)
    said = race(tiers, [make_source(tiers, number, b"same") for number in range(RACERS)])
    assert said == [said[0]] * RACERS
    assert said[0][0] == read_seal(tiers.checkpoint(RUN_ID)).digest()
    assert_settled(tiers)


def test_of_eight_that_promote_other_content_one_wins_and_the_others_are_told(tmp_path: Path) -> None:
    tiers = make_tiers(tmp_path)
    said = race(tiers, [make_source(tiers, number, b"%04d" % number) for number in range(RACERS)])
    winners = [first for first, _ in said if first != "exists"]
    assert winners == [read_seal(tiers.checkpoint(RUN_ID)).digest()]
    assert all("with other content than" in second for first, second in said if first == "exists")
    assert_settled(tiers)
