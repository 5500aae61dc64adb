#!/usr/bin/env bash
# Installs the system programs that the tests use and this machine lacks; as root, on Debian and Ubuntu.
set -euo pipefail

# Programs the tests use as they are: git for snapshots, strace to fail system calls, unshare for full and read-only disks,
# faketime for a clock that is set back, and a real Slurm of several nodes on this machine, with accounting in a database.
missing=()
for program in git make strace unshare faketime; do
    command -v "$program" >/dev/null 2>&1 || missing+=("${program/unshare/util-linux}")
done
PATH=$PATH:/usr/sbin:/sbin
declare -A packages=([munged]=munge [slurmctld]=slurmctld [slurmd]=slurmd [sbatch]=slurm-client
    [slurmdbd]=slurmdbd [mariadbd]=mariadb-server-core [mariadb-admin]=mariadb-client)
for program in "${!packages[@]}"; do
    command -v "$program" >/dev/null 2>&1 || missing+=("${packages[$program]}")
done
if ((${#missing[@]})); then
    if ((EUID != 0)); then
        echo "the tests need Debian's ${missing[*]}: install them as root, and start again" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    echo "installing for the tests: ${missing[*]}"
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
