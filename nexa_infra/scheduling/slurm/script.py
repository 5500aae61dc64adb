"""The script that Slurm runs: one text for every submission, so that nothing of a config can become part of it."""

from __future__ import annotations

SCRIPT_NAME = "job.sbatch"
"""Name of the script inside the folder of a submission."""

SCRIPT = """\
#!/bin/sh
# The same bytes for every job of NexaCompute. What differs comes as arguments and is never read by a shell again:
#   PYTHON SPEC OFFSET [ROWS [batch|srun]]
# batch: the job entry takes the place of this script, and with it Slurm's warning signal.
# srun: one node entry on each node.
set -eu
rows=${4:-1}
how=${5:-batch}
printf 'nexa: job %s, task %s, restart %s, on %s\\n' "${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:--}}" \\
    "${SLURM_ARRAY_TASK_ID:--}" "${SLURM_RESTART_COUNT:-0}" "${SLURM_JOB_NODELIST:--}"
if [ ! -x "$1" ]; then
    printf 'nexa: %s: no such program on %s; slurm.python of the site file names one that every node sees\\n' \\
        "$1" "${SLURMD_NODENAME:-this node}" >&2
    exit 127
fi
case $how in
batch)
    exec "$1" -P -m nexa_infra.scheduling.slurm_entry "$2" --offset "$3" --rows "$rows"
    ;;
srun)
    # srun does not take the number of cores from sbatch; without it each entry would have one.
    exec srun --ntasks-per-node=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=0 \\
        "$1" -P -m nexa_infra.scheduling.node_entry "$2" --offset "$3" --rows "$rows"
    ;;
*)
    printf 'nexa: found %s; allowed: batch, srun\\n' "$how" >&2
    exit 2
    ;;
esac
"""
