"""Rows: staged with their digests, read from both formats, and named to the row when one is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nexa_contracts.errors import ConfigError
from nexa_contracts.training import DataConfig
from nexa_infra.storage.datasets import dataset_paths
from nexa_train.blocks import build_blocks
from nexa_train.data import StagedDataset, read_rows, stage_dataset
from nexa_train.tokenizer import END_OF_TEXT, SPECIAL_TOKENS, train_tokenizer
from tests.train.training_site import Site, register, write_jsonl

GOOD = {"role": "user", "content": "x"}
GOOD_ROWS: dict[str, dict[str, Any]] = {
    "text": {"text": "a"},
    "chat": {"messages": [GOOD]},
    "preference": {"prompt": "a", "chosen": "b", "rejected": "c"},
}


def stage(site: Site, folder: Path, name: str, rows: list[dict[str, Any]]) -> StagedDataset:
    register(site.tiers, name, write_jsonl(folder / f"{name}.jsonl", rows))
    return stage_dataset(site.tiers, name)


@pytest.mark.parametrize(
    ("form", "row", "said"),
    [
        ("text", {"text": 3}, "row 2: text: found 3; allowed: a text"),
        ("text", {"text": "\ud800"}, "row 2: text: found half a surrogate pair; allowed: text that is Unicode"),
        ("text", {"text": None}, "row 2: text: found nothing; allowed: a text"),
        ("chat", {"messages": []}, "row 2: messages: found []; allowed: a list of messages, at least one"),
        ("chat", {"messages": [GOOD, {"role": "user"}]}, "row 2: messages[1]: found an object with the keys role"),
        ("preference", {"prompt": "a", "chosen": "b", "rejected": 1}, "row 2: rejected: found 1; allowed: a text"),
    ],
)
def test_a_wrong_row_is_named_with_what_is_allowed(
    site: Site, tmp_path: Path, form: str, row: dict[str, Any], said: str
) -> None:
    dataset = stage(site, tmp_path, f"wrong-{form}", [GOOD_ROWS[form], row])
    data = DataConfig.model_validate({"dataset": "x", "format": form})
    with pytest.raises(ConfigError) as raised:
        list(read_rows(dataset, data))
    assert said in raised.value.message


def test_parquet_and_jsonl_give_the_same_rows(site: Site, tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    rows = [{"path": str(number), "text": f"text {number} é"} for number in range(600)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "columns.parquet")
    register(site.tiers, "columns", tmp_path / "columns.parquet")
    data = DataConfig(dataset="x", max_rows=500)
    one = list(read_rows(stage(site, tmp_path, "lines", rows), data))
    assert one == list(read_rows(stage_dataset(site.tiers, "columns"), data))
    assert one == [{"text": row["text"]} for row in rows[:500]]


def test_staged_rows_outlive_the_time_stamp_but_not_the_content_of_the_registered_file(
    site: Site, tmp_path: Path
) -> None:
    dataset = stage(site, tmp_path, "stamped", [{"text": "one"}, {"text": "two"}])
    (path,) = dataset_paths(site.tiers, dataset.manifest)
    path.touch()
    assert stage_dataset(site.tiers, "stamped") == dataset
    path.chmod(0o644)
    path.write_text(path.read_text().replace("two", "six"))
    with pytest.raises(ConfigError, match="found sha256"):
        stage_dataset(site.tiers, "stamped")
    path.unlink()
    with pytest.raises(ConfigError, match="the file is missing"):
        stage_dataset(site.tiers, "stamped")


def test_blocks_hold_every_token_of_the_text_in_order_with_its_ends(site: Site, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    texts = [f"def value_{number}(): return {number}\n" * 5 for number in range(40)]
    dataset = stage(site, tmp_path, "blocks", [{"text": text} for text in texts])
    data = DataConfig(dataset="x", eval_fraction=0, block_size=16)
    tokenizer = Tokenizer.from_file(str(train_tokenizer(site.tiers, dataset, data, vocab_size=300)))
    end_id = SPECIAL_TOKENS.index(END_OF_TEXT)
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3]
    blocks = build_blocks(site.tiers, dataset, data, tokenizer=tokenizer, end_id=end_id)
    train = blocks.load("train")
    found = [int(token) for index in range(len(train)) for token in train[index]]
    decoded = tokenizer.decode(found, skip_special_tokens=False)
    whole = "".join(text + END_OF_TEXT for text in texts)
    assert whole.startswith(decoded)
    assert blocks.counts["train"].tokens - len(found) < 16
    assert blocks.counts["train"].size_bytes == sum(len(text.encode()) for text in texts)
    assert len(blocks.load("eval")) == 0
    assert blocks.eval_bytes_per_token is None
