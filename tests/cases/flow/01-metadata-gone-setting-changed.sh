#!/bin/bash
# .snakemake removed (or --cleanup-metadata, or results copied without it), then a setting changed: old numbers must not pass for new ones
. "$(dirname "$0")/situation.sh"
rm -rf .snakemake; sed -i 's/lr: 1.0e-3, warmup_steps: 5/lr: 2.0e-3, warmup_steps: 5/' config/scales/smoke.yaml
snakemake --config scale=smoke > out 2>&1; rc=$?; lct why table1.a.lct-1.fd --scale smoke > why 2>&1
grep -E 'Nothing to be done' out; head -2 why
[ $rc = 0 ] && grep -q 'Nothing to be done' out && bad "a changed learning rate goes unseen, exit code 0"
grep -q 'would not run again' why && bad "lct why calls it up to date"
good "the change is seen"
