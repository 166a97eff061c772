#!/usr/bin/env bash
# A real Slurm of one node on this machine, for the tests of `snakemake --profile slurm`; as root on Debian or
# Ubuntu. Without systemd, cgroups and accounting; nothing but the loopback address is used.
#
#   cluster.sh up     install slurm and munge where they are missing, start munged, slurmctld and slurmd
#   cluster.sh down   end all jobs and stop what `up` started
#
# All state lies in $SLURM_DEV (default: slurm-dev in the folder for temporary files); daemons that already run
# are left alone. Exit code 77: it cannot be had here, and the last line says why.
set -euo pipefail

DEV=${SLURM_DEV:-${TMPDIR:-/tmp}/slurm-dev}
HOST=$(hostname -s)
MEMORY_MB=$(($(awk '/MemTotal/{print $2}' /proc/meminfo) / 1024 * 9 / 10))

say() { echo "cluster: $*"; }
cannot() { say "$*"; exit 77; }
alive() { [ -s "$DEV/$1.pid" ] && [ "$(cat "/proc/$(cat "$DEV/$1.pid")/comm" 2>/dev/null)" = "$1" ]; }
wait_for() { # SECONDS COMMAND...
  local tries=$(($1 * 5)); shift
  for _ in $(seq "$tries"); do "$@" >/dev/null 2>&1 && return; sleep 0.2; done
  say "no success within the time: $*; see $DEV"; exit 1
}

install_packages() {
  if command -v slurmctld slurmd sbatch munged >/dev/null; then return; fi
  command -v apt-get >/dev/null || cannot "no Slurm here, and no apt-get to install it"
  say "installing slurm-wlm and munge"
  # A policy that forbids it keeps the packages from starting their daemons.
  local policy=/usr/sbin/policy-rc.d own=
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy; chmod +x $policy; own=1; }
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends slurm-wlm munge; } >"$DEV/apt.log" 2>&1 || own=$own.failed
  [ -z "${own%.failed}" ] || rm -f $policy
  [ "${own%.failed}" = "$own" ] || cannot "apt-get cannot install Slurm; see $DEV/apt.log"
}

write_configuration() {
  cat >"$DEV/slurm.conf" <<CONF
ClusterName=romosaic
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=$DEV/state
SlurmdSpoolDir=$DEV/spool
SlurmctldPidFile=$DEV/slurmctld.pid
SlurmdPidFile=$DEV/slurmd.pid
SlurmctldLogFile=$DEV/slurmctld.log
SlurmdLogFile=$DEV/slurmd.log
ReturnToService=2
SwitchType=switch/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
# without cgroups: memory is looked at every 2 s, and a job that has too much is killed
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill,UsePss
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
DefMemPerCPU=500
KillWait=2
AccountingStorageType=accounting_storage/none
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$MEMORY_MB State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  mkdir -p /etc/slurm
  if [ -e /etc/slurm/slurm.conf ] && [ ! -L /etc/slurm/slurm.conf ]; then
    cannot "/etc/slurm/slurm.conf is of another Slurm: not touched"
  fi
  ln -sfn "$DEV/slurm.conf" /etc/slurm/slurm.conf
}

start_munge() {
  munge -n >/dev/null 2>&1 && return
  [ -s /etc/munge/munge.key ] || (umask 077; head -c 1024 /dev/urandom >/etc/munge/munge.key)
  chown munge: /etc/munge/munge.key; chmod 400 /etc/munge/munge.key
  install -d -o munge -g munge -m 755 /run/munge
  install -d -o munge -g munge -m 700 /var/log/munge /var/lib/munge
  runuser -u munge -- munged --pid-file=/run/munge/munged.pid
  wait_for 10 munge -n
  cp /run/munge/munged.pid "$DEV/munged.pid"
}

start() { # DAEMON ARGUMENT...
  alive "$1" && return
  "$@" </dev/null >>"$DEV/$1.out" 2>&1 || { say "$1 does not start; see $DEV/$1.log"; exit 1; }
}

node_is_up() {
  case "$(sinfo -h -N -n "$HOST" -o %T | head -1)" in
    idle | mixed | allocated) return 0 ;;
    *) scontrol update nodename="$HOST" state=resume; return 1 ;;
  esac
}

up() {
  [ "$(id -u)" = 0 ] || cannot "only root can start a Slurm here"
  mkdir -p "$DEV"/{state,spool}
  install_packages
  write_configuration
  start_munge
  start slurmctld
  wait_for 20 scontrol ping
  start slurmd -N "$HOST"
  wait_for 60 node_is_up
  say "Slurm $(sinfo --version | cut -d' ' -f2) is up: $(nproc) cores, $MEMORY_MB MB"
}

down() {
  if alive slurmctld; then
    squeue -h -o %A | xargs -r scancel
    wait_for 30 sh -c '[ -z "$(squeue -h -t running,completing)" ]'
  fi
  for daemon in slurmd slurmctld munged; do
    if alive $daemon; then kill "$(cat "$DEV/$daemon.pid")"; fi
    rm -f "$DEV/$daemon.pid"
  done
  [ "$(readlink /etc/slurm/slurm.conf 2>/dev/null)" != "$DEV/slurm.conf" ] || rm /etc/slurm/slurm.conf
}

case "${1:-}" in
  up | down) "$1" ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
