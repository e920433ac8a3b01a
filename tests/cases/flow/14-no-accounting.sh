#!/bin/bash
# a real SLURM without slurmdbd: a run says what to put into the profile, and does not wait for ever without a word
tools=$(cd "$(dirname "$0")/../../slurm" && pwd)
. "$(dirname "$0")/situation.sh"
[ "$(id -u)" = 0 ] && command -v apt-get > /dev/null || exit 2
s=$(mktemp -d /tmp/case-slurm.XXXX); chmod 755 "$s"
trap 'cd /; "$tools/slurm-down" --purge "$s" > /dev/null; rm -rf "$tmp" "$s"' EXIT
SLURM_UP_ACCOUNTING=0 SLURM_UP_CPUS=8 SLURM_UP_MEM_MB=32000 SLURM_UP_PORT=26917 "$tools/slurm-up" "$s" > up 2>&1 || exit 2
pictures=results/smoke/neighbours/digits-lct; N=$pictures/s0/step40-ema0.9/one/d0.json; rm -rf $pictures; export LCT_DEVICE=cpu
on_slurm() { timeout -s INT -k 60 180 snakemake $N --profile profiles/default --workflow-profile profiles/slurm --config scale=smoke --slurm-init-seconds-before-status-checks 6 "$@"; }
on_slurm > out 2>&1; rc=$?; tail -3 out
[ $rc = 124 ] && bad "still waiting after 3 minutes for a job that has ended (queue: $(squeue -h | wc -l) jobs)"
hint=$(grep -o '`slurm-status-command: squeue`' out | head -1 | tr -d '`'); [ -n "$hint" ] || bad "it ends without a remedy"
echo "$hint" >> profiles/slurm/config.yaml
on_slurm > again 2>&1 && [ -e $N ] && good "the line in the profile works"
tail -3 again; bad "the line in the profile does not work"
