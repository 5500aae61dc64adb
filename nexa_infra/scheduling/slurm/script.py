"""The script that Slurm runs: one text for every submission, so that nothing of a config can become part of it."""

from __future__ import annotations

SCRIPT_NAME = "job.sbatch"
"""Name of the script inside the folder of a submission."""

SCRIPT = """\
#!/bin/sh
# The same bytes for every job of NexaCompute. What differs comes as arguments and is never read by a shell again:
#   PYTHON SPEC OFFSET [ROWS [WARNING]]
# The job entry takes the place of this script, and with it Slurm's warning signal.
set -eu
# Until the entry listens a warning would end it: one for a short job may come at once. The entry minds its end itself.
trap '' USR1 USR2
printf 'nexa: job %s, task %s, restart %s, on %s\\n' "${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:--}}" \\
    "${SLURM_ARRAY_TASK_ID:--}" "${SLURM_RESTART_COUNT:-0}" "${SLURM_JOB_NODELIST:--}"
if [ ! -x "$1" ]; then
    printf 'nexa: %s: no such program on %s; slurm.python of the site file names one that every node sees\\n' \\
        "$1" "${SLURMD_NODENAME:-this node}" >&2
    exit 127
fi
exec "$1" -P -m nexa_infra.scheduling.slurm_entry "$2" --offset "$3" --rows "${4:-1}" --warning "${5:-USR1@120}"
"""
