#!/bin/bash
# snakemake --touch after a changed setting: what is recorded must not carry other settings than configured without a word, and audit's advice must work
. "$(dirname "$0")/situation.sh"
sed -i 's/num_images: 64, batch: 32, draws/num_images: 64, batch: 16, draws/' config/scales/smoke.yaml
snakemake --touch --config scale=smoke > out 2>&1; grep Lineage out
lct audit table1.a.lct-1.fd --scale smoke | grep -m1 'stale:' > advice || good "not stale"
cat advice; snakemake --config scale=smoke > again 2>&1
lct audit table1.a.lct-1.fd --scale smoke | grep -q 'stale:' && grep -q 'run `snakemake`' advice && bad "audit says stale and 'run snakemake', which does nothing; lct record took it as up to date"
good "the advice works"
