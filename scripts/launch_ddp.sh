#!/usr/bin/env bash
# Data-parallel training by hand, where no scheduler starts it: the same line on every node, each with its own RANK.
#
#   RANK=0 WORLD_SIZE=4 MASTER_ADDR=node1 scripts/launch_ddp.sh --nproc 2 python train.py     on node1
#   RANK=2 WORLD_SIZE=4 MASTER_ADDR=node1 scripts/launch_ddp.sh --nproc 2 python train.py     on node2
#
# RANK is that of the node's first process and WORLD_SIZE counts the processes of all nodes, as PyTorch has it.
# MASTER_ADDR, MASTER_PORT, RANK and WORLD_SIZE are passed on as given. What is not given is worked out: within a Slurm
# job from its node list, else for this machine alone, on a free port. Without --nproc, or NPROC_PER_NODE in its place,
# every GPU that CUDA_VISIBLE_DEVICES shows gets a process; without GPUs it is one. PYTHON is the interpreter that has
# torch; python, if it is not set.
# Without a program it is our training, `python -m nexa_train.run`, of the run that the NEXA_ variables name.
# `nexa launch FILE --backend ddp` does the same on one machine and keeps a record of it.
set -euo pipefail

fail() {
    printf 'launch_ddp.sh: %s\n' "$1" >&2
    exit 2
}

number() { # NAME VALUE LEAST
    [[ $2 =~ ^[0-9]{1,9}$ ]] && ((10#$2 >= $3)) || fail "$1: found '$2'; allowed: a whole number from $3"
}

visible() { # as CUDA counts them: up to the first entry that names none
    local entry entries count=0
    IFS=, read -ra entries <<<"$CUDA_VISIBLE_DEVICES"
    for entry in "${entries[@]}"; do
        [[ $entry =~ ^\ *([0-9]+|GPU-.+|MIG-.+)$ ]] || break
        count=$((count + 1))
    done
    echo "$count"
}

processes=${NPROC_PER_NODE:-}
case ${1:-} in
-h | --help)
    awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "${BASH_SOURCE[0]}"
    exit 0
    ;;
--nproc)
    processes=${2-}
    number --nproc "$processes" 1
    shift 2
    ;;
--nproc=*)
    processes=${1#--nproc=}
    number --nproc "$processes" 1
    shift
    ;;
-*) fail "found $1; allowed: --nproc N, then the program and its arguments" ;;
esac
python=${PYTHON:-python}
command -v "$python" >/dev/null || fail "$python: not found; set PYTHON to the interpreter that has torch"
(($#)) || set -- "$python" -m nexa_train.run

if [[ -z $processes ]]; then
    gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU ' || true)
    ((gpus > 0)) && [[ -n ${CUDA_VISIBLE_DEVICES+set} ]] && gpus=$(visible)
    processes=$((gpus > 0 ? gpus : 1))
fi
number NPROC_PER_NODE "$processes" 1

nodes=1 node=0 first=127.0.0.1 port=29500
hosts=${SLURM_STEP_NODELIST:-${SLURM_JOB_NODELIST:-}}
if [[ -n $hosts ]]; then
    mapfile -t names < <(scontrol show hostnames "$hosts")
    ((${#names[@]})) || fail "Slurm's node list '$hosts' cannot be taken apart; set MASTER_ADDR, RANK and WORLD_SIZE"
    nodes=${#names[@]} node=${SLURM_NODEID:-0} first=${names[0]}
    number SLURM_NODEID "$node" 0
    number SLURM_JOB_ID "${SLURM_JOB_ID:-0}" 0
    port=$((10240 + 10#${SLURM_JOB_ID:-0} % 2816 * 8))
fi
world=${WORLD_SIZE:-$((nodes * 10#$processes))}
number WORLD_SIZE "$world" 1
rank=${RANK:-$((10#$node * 10#$processes))}
number RANK "$rank" 0
world=$((10#$world)) rank=$((10#$rank)) processes=$((10#$processes)) # 08 is eight
((world % processes == 0)) || fail "WORLD_SIZE: found $world; allowed: a multiple of the $processes processes of each node"
((rank % processes == 0 && rank < world)) ||
    fail "RANK: found $rank; allowed: that of a node's first process, a multiple of $processes below $world"
port=${MASTER_PORT:-$port}
number MASTER_PORT "$port" 1
port=$((10#$port))
((port <= 65535)) || fail "MASTER_PORT: found $port; allowed: up to 65535"
if ((world > processes)) && [[ -z ${MASTER_ADDR:-}$hosts ]]; then
    fail "MASTER_ADDR: not set; allowed: the name of the first node, the same on all $((world / processes)) nodes"
fi

if ((world == processes)) && [[ -z ${MASTER_ADDR:-}${MASTER_PORT:-} ]]; then
    exec "$python" -m torch.distributed.run --standalone --nproc-per-node="$processes" --local-addr=127.0.0.1 \
        --no-python "$@"
fi
exec "$python" -m torch.distributed.run --nnodes="$((world / processes))" --node-rank="$((rank / processes))" \
    --nproc-per-node="$processes" --master-addr="${MASTER_ADDR:-$first}" --master-port="$port" --no-python "$@"
