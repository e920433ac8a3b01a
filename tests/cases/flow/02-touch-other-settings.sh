#!/bin/bash
# snakemake --touch after a changed setting: what is recorded must not carry other settings than configured without a word, and audit's advice must work
. "$(dirname "$0")/situation.sh"
sed -i 's/num_images: 64, batch: 32, draws/num_images: 64, batch: 16, draws/' config/scales/smoke.yaml
snakemake --touch --config scale=smoke > out 2>&1; grep Lineage out
lct audit table1.a.lct-1.fd --scale smoke | grep -m1 'stale:' > advice || good "not stale"
cat advice; hint=$(grep -o '`snakemake [^`]*`' advice | tr -d '`'); [ -n "$hint" ] || bad "no command is named"
$hint > again 2>&1 || { tail -3 again; bad "the command fails"; }
lct audit table1.a.lct-1.fd --scale smoke | grep -qF "$(cat advice)" && bad "the command changes nothing"
snakemake --config scale=smoke > again 2>&1; lct audit table1.a.lct-1.fd --scale smoke | grep 'stale:' && bad "still stale after a run"
good "the advice works"
