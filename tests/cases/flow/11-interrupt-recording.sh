#!/bin/bash
# Ctrl-C while the run records itself: one line, and the same command (or what that line says) records
. "$(dirname "$0")/situation.sh"
unrecorded; rm -f reports/smoke/index.html
python - > verdict 2>&1 <<'PY'
import os, signal, subprocess, time
p = subprocess.Popen(["snakemake", "--config", "scale=smoke"], stdout=open("out", "w"), stderr=subprocess.STDOUT, start_new_session=True)
while p.poll() is None and "open it in a browser" not in open("out").read(): time.sleep(0.05)
time.sleep(2.5)
try: os.killpg(p.pid, signal.SIGINT)
except ProcessLookupError: pass
p.wait()
PY
grep -q '^Lineage: smoke' out && exit 2 # it was faster
n=$(grep -c '^  File' out); snakemake --config scale=smoke > again 2>&1; grep -E 'Nothing to be done|Lineage' again
grep -q Traceback out && echo "a traceback of $n frames"
[ -s lineage/smoke.jsonl ] || bad "the same command records nothing afterwards, and nothing named lct record"
grep -q Traceback out && bad "a traceback"; good "recorded"
