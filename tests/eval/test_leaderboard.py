"""The leaderboard ranks what is known, and the day's file holds each run once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_contracts.errors import StorageError
from nexa_contracts.sweep import Objective
from nexa_eval.leaderboard import Leaderboard, Ranked, leaderboard_path, rank_runs, render_rows, write_leaderboard

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
LOSS = Objective()
SCORE = Objective(metric="score", direction="maximize")


def make_run(run_id: str, value: float | None, *, rate: float = 1e-3, total_usd: float | None = 0.25) -> Ranked:
    return Ranked(
        rank=None,
        run_id=run_id,
        name="tiny",
        state="SUCCEEDED",
        value=value,
        point={"training.learning_rate": rate},
        metrics={} if value is None else {"eval_loss": value, "eval_bits_per_byte": 1.5},
        seconds=12.0,
        tokens=1000,
        total_usd=total_usd,
    )


def places(board: Leaderboard) -> list[tuple[int | None, str]]:
    return [(row.rank, row.run_id) for row in board.rows]


def read(path: Path) -> list[dict[str, object]]:
    from pyarrow import parquet

    rows: list[dict[str, object]] = parquet.read_table(path).to_pylist()
    return rows


def test_the_objective_says_what_is_better() -> None:
    runs = [make_run("a", 2.0), make_run("b", 1.0), make_run("c", 3.0)]
    assert places(rank_runs(runs, LOSS)) == [(1, "b"), (2, "a"), (3, "c")]
    assert places(rank_runs(runs, SCORE)) == [(1, "c"), (2, "a"), (3, "b")]


def test_equal_values_share_a_rank_and_unknown_ones_have_none() -> None:
    runs = [
        make_run("d", None),
        make_run("c", float("nan")),
        make_run("b", 1.0),
        make_run("a", 1.0),
        make_run("e", 2.0),
    ]
    board = rank_runs(runs, LOSS)
    assert places(board) == [(1, "a"), (1, "b"), (3, "e"), (None, "c"), (None, "d")]
    assert board.best is board.rows[0]


def test_nothing_is_best_where_nothing_is_known() -> None:
    assert rank_runs([], LOSS).best is None
    assert rank_runs([make_run("a", None)], LOSS).best is None


@given(values=st.lists(st.none() | st.floats(), max_size=20))
def test_ranking_keeps_every_run_and_orders_the_known(values: list[float | None]) -> None:
    runs = [make_run(f"r{number:02d}", value) for number, value in enumerate(values)]
    board = rank_runs(runs, LOSS)
    assert sorted(row.run_id for row in board.rows) == [run.run_id for run in runs]
    known = [row.value for row in board.rows if row.rank is not None and row.value is not None]
    assert known == sorted(known)
    assert rank_runs(reversed(board.rows), LOSS) == board or any(value != value for value in values)


def test_the_days_file_holds_each_run_once_the_newest_ranking(tmp_path: Path) -> None:
    write_leaderboard(tmp_path, rank_runs([make_run("a", 2.0), make_run("b", 3.0)], LOSS), now=NOW)
    path = write_leaderboard(tmp_path, rank_runs([make_run("b", 1.0), make_run("c", None)], LOSS), now=NOW)
    assert path == leaderboard_path(tmp_path, NOW) == tmp_path / "leaderboard_20261102.parquet"
    rows = {row["run_id"]: row for row in read(path)}
    assert {run_id: row["value"] for run_id, row in rows.items()} == {"a": 2.0, "b": 1.0, "c": None}
    assert rows["b"]["point"] == '{"training.learning_rate": 0.001}'
    assert rows["a"]["ranked_at"] == NOW


def test_another_metric_or_another_sweep_leaves_an_earlier_ranking_as_it_is(tmp_path: Path) -> None:
    for sweep_id, objective in (("s", LOSS), ("s", SCORE), ("t", LOSS), (None, LOSS)):
        write_leaderboard(tmp_path, rank_runs([make_run("a", 2.0)], objective, sweep_id=sweep_id), now=NOW)
    path = write_leaderboard(tmp_path, rank_runs([make_run("b", 1.0)], LOSS, sweep_id="s"), now=NOW)
    assert {(row["sweep_id"], row["metric"], row["run_id"]) for row in read(path)} == {
        ("s", "eval_loss", "b"), ("s", "score", "a"), ("t", "eval_loss", "a"), (None, "eval_loss", "a")
    }  # fmt: skip


def test_runs_of_several_names_are_shown_with_their_names() -> None:
    runs = [make_run("a", 2.0), replace(make_run("b", 1.0), name="other")]
    headers, cells = render_rows(rank_runs(runs, LOSS))
    assert [row[headers.index("name")] for row in cells] == ["other", "tiny"]
    assert "name" not in render_rows(rank_runs(runs[:1], LOSS))[0]


def test_a_file_that_is_not_ours_is_left_and_named(tmp_path: Path) -> None:
    path = leaderboard_path(tmp_path, NOW)
    path.write_bytes(b"notes")
    with pytest.raises(StorageError, match=str(path)):
        write_leaderboard(tmp_path, rank_runs([make_run("a", 2.0)], LOSS), now=NOW)
    assert path.read_bytes() == b"notes"


def test_the_table_shows_swept_values_and_says_unknown(tmp_path: Path) -> None:
    headers, cells = render_rows(rank_runs([make_run("a", 2.0, total_usd=None), make_run("b", None)], LOSS))
    assert headers[:4] == ["#", "run", "learning_rate", "eval_loss"]
    assert cells[0][:4] == ["1", "a", "0.001", "2.0000"]
    assert cells[0][-1] == "unknown"
    assert cells[1][0] == "-"
    assert all(len(row) == len(headers) for row in cells)
