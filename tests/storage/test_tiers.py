from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexa_contracts.errors import ConfigError, TierMissing
from nexa_contracts.site import TierPaths
from nexa_infra.storage.layout import TIER_MARKER, Tiers
from nexa_infra.storage.tiers import check_tiers, describe_tiers, init_tiers, open_tiers, plan_tiers
from tests.storage.artifacts_made import CLOCK, make_tiers, save_checkpoint


def test_tiers_the_site_does_not_name_are_made_on_first_use(tmp_path: Path) -> None:
    tiers = open_tiers(TierPaths(), tmp_path, clock=CLOCK)
    assert tiers.durable == tmp_path / "storage/durable"
    assert tiers.checkpoints.is_dir()
    assert open_tiers(TierPaths(), tmp_path, clock=CLOCK) == tiers


def test_a_named_tier_is_never_made_silently(tmp_path: Path) -> None:
    paths = TierPaths(durable="mnt")
    (tmp_path / "mnt").mkdir()  # as an unmounted disk leaves it
    with pytest.raises(TierMissing, match=r"tiers.durable: .*mnt has no marker") as caught:
        open_tiers(paths, tmp_path, clock=CLOCK)
    assert "nexa storage init" in str(caught.value.hint)
    assert list((tmp_path / "mnt").iterdir()) == []
    init_tiers(plan_tiers(paths, tmp_path), clock=CLOCK)
    assert open_tiers(paths, tmp_path, clock=CLOCK).durable == tmp_path / "mnt"


def test_a_tier_that_went_away_is_missing(tmp_path: Path) -> None:
    tiers = make_tiers(tmp_path)
    tiers.durable.rename(tmp_path / "unmounted")
    with pytest.raises(TierMissing, match="does not exist"):
        check_tiers(tiers)


def test_a_scratch_folder_is_not_taken_for_durable(tmp_path: Path) -> None:
    tiers = make_tiers(tmp_path)
    swapped = Tiers(tiers.scratch, tiers.shared, tiers.durable)
    for use in (check_tiers, lambda wrong: init_tiers(wrong, clock=CLOCK)):
        with pytest.raises(TierMissing, match=r"tiers.durable: .* is initialised as 'shared'"):
            use(swapped)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"tier": "durable"}', "\xff"])
def test_a_marker_that_is_not_one_is_named(tmp_path: Path, content: str) -> None:
    tiers = make_tiers(tmp_path)
    (tiers.durable / TIER_MARKER).write_text(content, encoding="latin-1")
    with pytest.raises(TierMissing, match="is not a tier's marker"):
        check_tiers(tiers)


def test_initialising_again_changes_nothing(tmp_path: Path) -> None:
    tiers = make_tiers(tmp_path)
    before = (tiers.durable / TIER_MARKER).read_bytes()
    assert init_tiers(tiers, clock=CLOCK) == ()
    assert (tiers.durable / TIER_MARKER).read_bytes() == before
    assert json.loads(before)["tier"] == "durable"


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (TierPaths(scratch="x", durable="x"), "three different folders"),
        (TierPaths(scratch="x", durable="y/../x/."), "three different folders"),
        (TierPaths(scratch="x", durable="x/kept"), "inside scratch"),
        (TierPaths(scratch="runs"), "which holds the runs"),
        (TierPaths(shared="runs/manifests"), "which holds the runs"),
    ],
)
def test_tiers_that_exclude_each_other_are_refused(tmp_path: Path, paths: TierPaths, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_tiers(paths, tmp_path)


def test_what_a_tier_holds_is_counted(tmp_path: Path) -> None:
    tiers = make_tiers(tmp_path)
    before = {use.name: use for use in describe_tiers(tiers)}
    save_checkpoint(tiers, 1, sealed=False)
    after = {use.name: use for use in describe_tiers(tiers)}
    assert after["scratch"].files - before["scratch"].files == 3
    assert after["scratch"].size_bytes - before["scratch"].size_bytes == 256 * 40 + 1 + 100
    assert after["durable"].files == before["durable"].files
    assert after["scratch"].total_bytes > 0
