from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_contracts.errors import ConfigError, NotFound
from nexa_contracts.yaml_text import MAX_DEPTH, dotted, parse_yaml, read_yaml

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abcxyz_.-", min_size=1, max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(JSON_VALUES)
def test_json_is_read_as_itself(value: Any) -> None:
    assert parse_yaml(json.dumps(value), source="f").data == value


@given(st.text(max_size=60))
def test_any_text_is_data_or_one_config_error(text: str) -> None:
    with suppress(ConfigError):
        assert parse_yaml(text, source="f").source == "f"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("0777", 777),
        ("0o17", 15),
        ("1e-4", 1e-4),
        ("3e-4", 3e-4),
        ("1_000", 1000),
        ("2026-01-02", "2026-01-02"),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("=", "="),
        ("TRUE", True),
        ("~", None),
        ("!!str 5", "5"),
        ("'5'", "5"),
    ],
)
def test_a_plain_word_means_what_yaml_1_2_says(text: str, value: Any) -> None:
    found = parse_yaml(f"key: {text}", source="f").data["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "\n\n"])
def test_an_empty_document_holds_nothing(text: str) -> None:
    assert parse_yaml(text, source="f").data is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "f:3: a: the key stands twice (first on line 1); keep one"),
        ("a:\n  b: 1\n\n  b: 2", "f:4: a.b: the key stands twice (first on line 2); keep one"),
        ("{a: 1, a: 2}", "f:1: a: the key stands twice (first on line 1); keep one"),
        ("x: 1\n\ta: 1", "f:2: not valid YAML: found character '\\t' that cannot start any token"),
        ("a: &x 1\nb: *x", "f:1: anchors and aliases are not allowed; write the value out"),
        ("a: 1\n---\nb: 2", "f:2: more than one YAML document in the file; allowed: one"),
        ("? [a]\n: 1", "f:1: a key must be a plain word"),
        ("%YAML 1.1\n---\na: no", "f:2: found %YAML 1.1; allowed: 1.2"),
        ("a: !!python/object:os.system ls", "f:1: the tag tag:yaml.org,2002:python/object:os.system is not allowed"),
        (
            "a: !!python/object/apply:os.system [ls]",
            "f:1: the tag tag:yaml.org,2002:python/object/apply:os.system is not allowed",
        ),
        ("!!python/object:x {a: 1}", "f:1: the tag tag:yaml.org,2002:python/object:x is not allowed"),
        ("a: !!set {x}", "f:1: the tag tag:yaml.org,2002:set is not allowed"),
        ("a: !!binary aGk=", "f:1: the tag tag:yaml.org,2002:binary is not allowed"),
        ("a: !!bool maybe", "f:1: 'maybe' is not true or false"),
        ('a: !!int ""', "f:1: '' is not a whole number that can be read"),
        ("a: !!float abc", "f:1: 'abc' is not a number"),
        ("a: " + "9" * 5000, f"f:1: {'9' * 57 + '...'!r} is not a whole number that can be read"),
        ("a: 0x" + "f" * 5000, f"f:1: {'0x' + 'f' * 55 + '...'!r} is not a whole number that can be read"),
        ('a: "\\ud800"', "f:1: '\\ud800' is not Unicode text"),
        ("a: [1, 2", "f:1: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: \x07", "f: not valid YAML: unacceptable character #x0007: special characters are not allowed"),
    ],
)
def test_what_is_not_plain_data_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, source="f")
    assert str(caught.value) == message


def test_every_duplicate_key_of_a_file_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml("a: 1\na: 2\nb: {c: 1, c: 2}\n", source="f")
    assert str(caught.value).splitlines() == [
        "f:2: a: the key stands twice (first on line 1); keep one",
        "f:3: b.c: the key stands twice (first on line 3); keep one",
    ]


@pytest.mark.parametrize("text", ["[" * 50_000, "- " * 50_000, "{a: " * 50_000, "? " * 50_000])
def test_deep_nesting_is_refused_before_anything_recurses(text: str) -> None:
    with pytest.raises(ConfigError, match=f"f:1: nested deeper than {MAX_DEPTH} levels"):
        parse_yaml(text, source="f")


def test_the_deepest_nesting_allowed_is_read() -> None:
    assert parse_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH, source="f").data


def test_an_alias_bomb_is_refused_at_its_first_anchor() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{key}: &{key} [*{prev}, *{prev}]\n" for prev, key in zip("abcdefg", "bcdefgh", strict=True)
    )
    with pytest.raises(ConfigError, match="f:1: anchors and aliases are not allowed"):
        parse_yaml(bomb, source="f")


def test_a_ten_megabyte_file_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_bytes(b"a: 1\n" * 2_000_000)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert str(caught.value) == f"{path}: larger than 256 KiB, the most a config may be"


def test_text_that_is_not_utf8_is_refused_with_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"name: caf\xe9\n")
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert str(caught.value) == f"{path}: not UTF-8 text (byte 9)"


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: x\n")
    assert read_yaml(path).data == {"name": "x"}


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_yaml(tmp_path)


def test_every_key_knows_its_line() -> None:
    lines = parse_yaml("a: 1\nb:\n  - x\n  - y: 2\n", source="f").lines
    assert lines == {(): 1, ("a",): 1, ("b",): 2, ("b", 0): 3, ("b", 1): 4, ("b", 1, "y"): 4}


def test_a_key_with_a_line_break_stays_on_one_line_of_an_error() -> None:
    assert dotted(("a", "b\nc", 0)) == "a.'b\\nc'.0"
