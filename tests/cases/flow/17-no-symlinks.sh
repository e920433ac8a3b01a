#!/bin/bash
# a file system without symlinks, DVC's cache.type set to copy: record works, restore must too (os.symlink is refused by a stand-in)
. "$(dirname "$0")/situation.sh"
unrecorded; dvc config --local cache.type copy; mkdir "$tmp/site"; printf 'import os\ndef no(*a, **k): raise PermissionError(1, "Operation not permitted", a[1])\nos.symlink = no\n' > "$tmp/site/sitecustomize.py"
export PYTHONPATH=$PWD:$tmp/site; lct record --scale smoke > out 2>&1 || { tail -1 out; bad "not recorded"; }
rm -rf results; lct restore > out 2>&1 && good "restored"; tail -1 out; bad "recorded, but never restored"
