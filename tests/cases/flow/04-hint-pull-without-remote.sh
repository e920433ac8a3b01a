#!/bin/bash
# results deleted, content still in the cache, no remote: the command that the guard names must bring them back
. "$(dirname "$0")/situation.sh"
rm -rf results reports/smoke; snakemake --config scale=smoke > out 2>&1 && exit 2
hint=$(grep -o '`lct restore[^`]*`' out | head -1 | tr -d '`'); echo "hint: $hint"; [ -n "$hint" ] || exit 2
$hint > restored 2>&1; rc=$?; tail -1 restored
[ $rc = 0 ] || bad "the hint fails, while plain 'lct restore' says: $(lct restore | head -1)"
good "the hint works"
