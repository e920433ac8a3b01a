#!/bin/bash
# results/ is a link to another disk, as quotas of home folders ask for
. "$(dirname "$0")/situation.sh"
unrecorded; mkdir "$tmp/scratch"; mv results "$tmp/scratch/"; ln -s "$tmp/scratch/results" results
lct doctor --scale smoke > doc 2>&1; dr=$?; lct record --scale smoke > out 2>&1 && good "recorded"; tail -1 out
[ $dr != 0 ] && grep -q results doc && good "lct doctor says so beforehand"
bad "never recorded; lct doctor exits $dr; the line has no remedy"
