#!/usr/bin/env bash
# Scores a checkpoint on the devices of one machine and waits for the end; the status is not 0 if a process failed.
set -euo pipefail
usage="usage: $0 DEVICES LOG_DIR --weight CHECKPOINT [option of test.py ...]
  DEVICES  processes to start, one per device
  LOG_DIR  folder for worker_<rank>.log and scheduler.log
in the environment: MASTER_PORT (8118), CLUSTER_TIME_OUT (300, seconds to wait for all processes)"
if [[ "${1:-}" == -h || "${1:-}" == --help ]]; then echo "$usage" && exit 0; fi
if (($# < 2)); then echo "$usage" >&2 && exit 2; fi
devices=$1 logs=$2 root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
shift 2
exec msrun --worker_num="$devices" --local_worker_num="$devices" --master_port="${MASTER_PORT:-8118}" \
    --cluster_time_out="${CLUSTER_TIME_OUT:-300}" --join=True --log_dir="$logs" python "$root/test.py" "$@"
