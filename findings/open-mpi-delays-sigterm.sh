#!/usr/bin/env bash
# Open MPI 4.1.4: odls_base_sigkill_timeout is no time between SIGTERM and SIGKILL alone. mpirun that gets SIGTERM sends its ranks
# SIGCONT, waits that time, sends SIGTERM, waits it again, and then kills; and it waits in full, also where all ranks have ended. Who
# gives ranks a minute to save (the default is a second) has them go on for a minute first.
#
# Seen on Debian 12 (openmpi-bin 4.1.4-3+b1):
#   rank gone after 5030 ms, mpirun after 9077 ms, status 1
#
# Needs openmpi-bin. Status 0 while this holds.
set -uo pipefail
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
milliseconds() { echo $(($(date +%s%N) / 1000000)); }

mpirun --mca odls_base_sigkill_timeout 5 -n 1 sleep 98765 2>/dev/null &
launcher=$!
until rank=$(pgrep -P "$launcher" -x sleep); do sleep 0.1; done
begun=$(milliseconds)
kill -TERM "$launcher"
while readlink "/proc/$rank/exe" >/dev/null; do sleep 0.01; done  # nothing for one that has ended and is not waited for
rank_gone=$(($(milliseconds) - begun))
wait "$launcher"
status=$?
all_gone=$(($(milliseconds) - begun))
echo "rank gone after $rank_gone ms, mpirun after $all_gone ms, status $status"
[ "$rank_gone" -ge 4500 ] && [ "$all_gone" -ge $((rank_gone + 3500)) ]
