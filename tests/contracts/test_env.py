from __future__ import annotations

import json

import pytest

from nexa_contracts import env
from nexa_contracts.errors import ConfigError
from nexa_contracts.run import RunConfig

# Made up from parts, so that no scanner takes this file for a leak.
GITHUB = "ghp" + "_" + "a1" * 18
HUB = "hf" + "_" + "Ab1" * 10
AMAZON = "AKIA" + "ABCDEFGH12345678"
PRIVATE_KEY = "-----BEGIN OPENSSH " + "PRIVATE KEY-----"


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "WANDB_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AZURE_STORAGE_CONNECTION_STRING",
        "PGPASSWORD",
        "MYSQL_PWD",
        "DB_PASS",
        "GITHUBTOKEN",
        "GITHUB_PAT",
        "clientSecret",
        "apikey",
        "OPENAI_API_KEY_2",
        "SENTRY_DSN",
        "SLACK_WEBHOOK",
        "GOOGLE_APPLICATION_CREDENTIALS",
    ],
)
def test_a_variable_named_like_a_credential_is_one(name: str) -> None:
    assert env.looks_like_credential(name, "x")


@pytest.mark.parametrize(
    "value", [GITHUB, HUB, AMAZON, PRIVATE_KEY, "https://me:pw@host/x", "prefix " + HUB + " suffix"]
)
def test_a_value_of_the_shape_of_a_credential_is_one_under_any_name(value: str) -> None:
    assert env.looks_like_credential("HARMLESS", value)
    assert env.holds_secret_text(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENIZERS_PARALLELISM", "false"),
        ("OMP_NUM_THREADS", "1"),
        ("CUDA_VISIBLE_DEVICES", "0,1"),
        ("NCCL_DEBUG", "INFO"),
        ("HF_HOME", "/data/hf"),
        ("PATH", "/usr/bin:/bin"),
        ("MONKEY", "see"),
        ("COMPASS", "north"),
        ("PROXY", "https://host:8080/path"),
    ],
)
def test_an_ordinary_variable_is_no_credential(name: str, value: str) -> None:
    assert not env.looks_like_credential(name, value)


def test_a_recorded_environment_names_credentials_but_never_shows_them() -> None:
    recorded = env.record_environment(
        {"HF_TOKEN": "hush", "WANDB_MODE": "offline", "NEXA_JOB_TOKEN": "mark", "HOME": "/home/a", "CUDA_HOME": "/cuda"}
    )
    assert recorded == {"CUDA_HOME": "/cuda", "HF_TOKEN": env.PRESENT, "WANDB_MODE": "offline"}
    assert list(recorded) == sorted(recorded)


@pytest.mark.parametrize(
    "part",
    [
        {"env": {"HF_TOKEN": "x"}},
        {"env": {"HARMLESS": HUB}},
        {"env": {"1A": "x"}},
        {"secrets": ["A B"]},
        {"command": ["curl", GITHUB]},
    ],
)
def test_a_config_takes_no_credential_and_repeats_none(part: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_json(json.dumps({"command": ["a"], **part}), source="c.json")
    assert GITHUB not in str(caught.value)
    assert HUB not in str(caught.value)


def test_secrets_are_named_and_their_values_are_no_part_of_the_config() -> None:
    config = RunConfig.from_json(json.dumps({"command": ["a"], "secrets": ["HF_TOKEN"]}), source="c.json")
    assert config.secrets == ("HF_TOKEN",)


@pytest.mark.parametrize("text", ["x", "eyJ", "-----BEGIN ", "hf_", "a://", "x:x@", "eyJabcdefghijklmnop."])
def test_a_long_text_is_judged_as_fast_as_it_is_read(text: str) -> None:
    whole = text * (1_000_000 // len(text))
    assert env.holds_secret_text(whole) == env.holds_secret_text(whole[:1000])
