#!/usr/bin/env bash
# Trains on the devices of several machines: start it on each of them, with another NODE_RANK and all else equal.
set -euo pipefail
usage="usage: $0 MASTER_ADDRESS NODES NODE_RANK DEVICES LOG_DIR [option of train.py ...]
  MASTER_ADDRESS  address of the node of rank 0, which the others can reach
  NODES           machines;  NODE_RANK  this one's number, from 0;  DEVICES  of each machine
  LOG_DIR         folder for worker_<rank>.log, and scheduler.log on the node of rank 0
in the environment: MASTER_PORT (8118), CLUSTER_TIME_OUT (300, seconds to wait for all nodes)"
if [[ "${1:-}" == -h || "${1:-}" == --help ]]; then echo "$usage" && exit 0; fi
if (($# < 5)); then echo "$usage" >&2 && exit 2; fi
address=$1 nodes=$2 node=$3 devices=$4 logs=$5 root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
shift 5
exec msrun --worker_num="$((nodes * devices))" --local_worker_num="$devices" --node_rank="$node" \
    --master_addr="$address" --master_port="${MASTER_PORT:-8118}" --cluster_time_out="${CLUSTER_TIME_OUT:-300}" \
    --join=True --log_dir="$logs" python "$root/train.py" "$@"
