#!/bin/bash
# lct from a subfolder: it must work, or say that it is not the project's folder; never "nothing is recorded", exit code 0
. "$(dirname "$0")/situation.sh"
cd config; lct restore > ../out 2>&1; rc=$?; lct status --scale smoke >> ../out 2>&1; cat ../out
[ $rc = 0 ] && grep -q 'nothing is recorded' ../out && bad "lct restore says that nothing is recorded, exit code 0"
grep -q 'create it' ../out && bad "lct status tells the user to create config/config/config.yaml"
snakemake -s ../Snakefile -n --config scale=smoke > ../out 2>&1; hint=$(grep -o -- '--directory .*' ../out); [ -n "$hint" ] || { cat ../out; bad "snakemake says nothing of the folder"; }
eval "snakemake -s ../Snakefile -n --config scale=smoke $hint" 2>&1 | grep -q 'Nothing to be done' || bad "$hint does not work"; good "clear"
