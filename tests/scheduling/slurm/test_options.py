"""Options of sbatch: what resources and site ask for, and no value that becomes something else."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexa_contracts.errors import ConfigError
from nexa_contracts.resources import Resources
from nexa_contracts.site import SlurmSite
from nexa_infra.scheduling.slurm.options import check_extra, render_after, render_options

HOSTILE = (
    "a\n#SBATCH --export=ALL", "a\n", "\na", "a b", "a --output=/etc/x", "--wrap=id", "-p", "$(id)", "`id`", "a;id",
    "a;${IFS}id", "it's", 'a"b', "a\\b", "a\0b", "a\rb", "a\tb", "é", "٣", "", "a" * 2_000, "a>b", "a<b", "{a,b}", "~a",
    "../x",
)  # fmt: skip


def render(resources: Resources | None = None, site: SlurmSite | None = None, **changes: Any) -> tuple[str, ...]:
    given_: dict[str, Any] = {"job_name": "sweep_1.c0", "output": "slurm/%A_%a.out", "export": ("PATH", "HOME")}
    return render_options(resources or Resources(), site or SlurmSite(), **(given_ | changes))


def test_everything_that_is_asked_becomes_one_argument() -> None:
    resources = Resources(nodes=4, gpus_per_node=8, gpu_type="H100-SXM", cpus=96, memory="1500GiB", walltime="2d3h4m5s")
    site = SlurmSite(
        partition="gpu,long", account="lab-1", qos="high", constraint="(a100|h100)&ib", exclude=("n[1-3,07]", "bad"),
        gpu_types={"H100-SXM": "h100"}, signal="USR2", signal_lead="90s", requeue=False, extra=("--exclusive",),
    )  # fmt: skip
    assert render(resources, site, array="0-99,104%8") == (
        "--job-name=sweep_1.c0",
        "--output=slurm/%A_%a.out",
        "--open-mode=append",
        "--export=PATH,HOME",
        "--nodes=4",
        "--ntasks-per-node=1",
        "--cpus-per-task=96",
        "--mem=1536000M",
        "--time=2-03:04:05",
        "--gpus-per-node=h100:8",
        "--partition=gpu,long",
        "--account=lab-1",
        "--qos=high",
        "--constraint=(a100|h100)&ib",
        "--exclude=n[1-3,07],bad",
        "--signal=B:USR2@90",
        "--no-requeue",
        "--array=0-99,104%8",
        "--exclusive",
    )


def test_what_nobody_asked_for_is_left_to_the_cluster() -> None:
    names = {word.partition("=")[0] for word in render(export=())}
    assert not names & {"--partition", "--account", "--qos", "--constraint", "--exclude", "--array", "--gpus-per-node"}
    assert "--export=NIL" in render(export=())
    assert "--requeue" in render()


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("key", ["partition", "account", "qos", "constraint", "exclude"])
def test_no_value_of_the_site_gets_through(key: str, value: str) -> None:
    site = SlurmSite.model_validate({key: (value,) if key == "exclude" else value})
    with pytest.raises(ConfigError, match=rf"slurm\.{key}") as caught:
        render(site=site)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize(
    ("argument", "named"), [("job_name", "job name"), ("output", "output"), ("array", "array"), ("export", "secrets")]
)
def test_no_value_of_a_run_gets_through(argument: str, named: str, value: str) -> None:
    changes: dict[str, Any] = {argument: (value,) if argument == "export" else value}
    with pytest.raises(ConfigError, match=named) as caught:
        render(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [value for value in HOSTILE if value])
def test_no_name_of_a_gpu_gets_through(value: str) -> None:
    site = SlurmSite(gpu_types={"A100": value})
    with pytest.raises(ConfigError, match=r"slurm\.gpu_types\.A100"):
        render(Resources(gpus_per_node=1, gpu_type="A100"), site)


@pytest.mark.parametrize("path", ["a/../b", "..", "/x/.."])
def test_an_output_stays_where_it_is_put(path: str) -> None:
    with pytest.raises(ConfigError, match=r"without \.\."):
        render(output=path)


@given(text=st.text(max_size=30))
def test_whatever_is_taken_is_one_plain_word(text: str) -> None:
    plain = re.compile(r"--[a-z-]+(?:=[A-Za-z0-9._/%@+,:=~()\[\]&|*-]+)?", re.ASCII)
    for site in ({"partition": text}, {"constraint": text}, {"exclude": (text,)}, {"extra": (f"--comment={text}",)}):
        try:
            words = render(site=SlurmSite.model_validate(site))
        except ConfigError:
            continue
        assert all(plain.fullmatch(word) for word in words)


def test_a_gpu_type_that_the_site_does_not_name_is_asked_for() -> None:
    resources = Resources(gpus_per_node=2, gpu_type="H100-SXM")
    with pytest.raises(ConfigError, match=r"H100-SXM.*allowed on slurm: A100") as caught:
        render(resources, SlurmSite(gpu_types={"A100": "a100"}))
    assert "slurm.gpu_types" in str(caught.value.hint)
    assert "--gpus-per-node=2" in render(resources, SlurmSite(gpu_types={"H100-SXM": ""}))
    assert "--gpus-per-node=2" in render(Resources(gpus_per_node=2))


def test_a_shared_gpu_is_refused_not_given_whole() -> None:
    with pytest.raises(ConfigError, match="share_gpus"):
        render(Resources(gpus_per_node=1, share_gpus=True))


@pytest.mark.parametrize(
    ("walltime", "time"),
    [("45s", "0-00:00:45"), ("1h", "0-01:00:00"), ("1.5s", "0-00:00:02"), ("400d", "400-00:00:00")],
)
def test_time_is_never_less_than_asked(walltime: str, time: str) -> None:
    assert f"--time={time}" in render(Resources(walltime=walltime))


def test_memory_is_never_less_than_asked() -> None:
    assert "--mem=1908M" in render(Resources(memory="2GB"))


def test_a_signal_longer_before_than_slurm_counts_is_refused() -> None:
    with pytest.raises(ConfigError, match="signal_lead"):
        render(site=SlurmSite(signal_lead="1d"))


@pytest.mark.parametrize(
    "word", ["--comment=x", "--nodelist=n[1-2]", "--gres=lustre:1", "--exclusive", "--mail-type=END"]
)
def test_the_sites_own_options_pass(word: str) -> None:
    assert check_extra([word]) == (word,)
    assert render(site=SlurmSite(extra=(word,)))[-1] == word


@pytest.mark.parametrize(
    "word",
    ["--array=0-5", "--arr=0-5", "--wrap=id", "--wra=id", "--exp=ALL", "--job-n=x", "--parsable", "--time=1",
     "--export=A", "--export-file=x", "--dependency=singleton", "--mem=0", "--open-mode=truncate", "--output=x"],
)  # fmt: skip
def test_what_nexa_sets_itself_is_refused_abbreviated_too(word: str) -> None:
    with pytest.raises(ConfigError, match=r"slurm\.extra\.1"):
        check_extra(["--comment=x", word])


@pytest.mark.parametrize(
    "word", [*HOSTILE, "comment=x", "--comment", "--comment=", "--comment=-x", "--Comment=x", "--", ":"]
)
def test_what_is_no_option_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=r"slurm\.extra\.0") as caught:
        check_extra([word])
    assert "\n" not in str(caught.value)


def test_waiting_for_a_job_takes_a_number() -> None:
    assert render_after("123") == "--dependency=afterany:123"
    with pytest.raises(ConfigError):
        render_after("1,singleton")


@pytest.mark.parametrize("python", [*(text for text in HOSTILE), "python3", "./python", "/usr/bin/python\n"])
def test_python_on_the_nodes_is_the_path_of_a_program(python: str) -> None:
    with pytest.raises(ConfigError, match=r"slurm\.python: found .*; allowed: the path of a program, from / on"):
        render(site=SlurmSite(python=python))


def test_python_may_stand_in_a_folder_of_any_name() -> None:
    assert render(site=SlurmSite(python="/opt/my tools/ümlaut's $HOME/bin/python3")) == render()
