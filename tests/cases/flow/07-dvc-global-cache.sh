#!/bin/bash
# a shared cache set where DVC documents it for all projects: dvc config --global cache.dir
. "$(dirname "$0")/situation.sh"
unrecorded; export XDG_CONFIG_HOME=$tmp/xdg; mkdir "$tmp/xdg"; dvc config --global cache.dir "$tmp/shared" || exit 2
lct record --scale smoke > out 2>&1; rc=$?; tail -1 out
[ $rc = 0 ] && [ -s lineage/smoke.jsonl ] && good "recorded"
bad "nothing can be recorded; $(find "$tmp/shared" -type f | wc -l) objects went to the shared cache all the same"
