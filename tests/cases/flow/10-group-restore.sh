#!/bin/bash
# a checkout that a group shares (2775, umask 002): lct restore of a member who is not the owner of every file
. "$(dirname "$0")/situation.sh"
[ "$(id -u)" = 0 ] || exit 2
umask 002; chmod 755 "$tmp"; chown -R 12345:5000 .; find . -type d -exec chmod 2775 {} +; find . -type f -exec chmod g+rw {} +
mkdir "$tmp/home"; chown 12346 "$tmp/home"
# the member owns none of it; may enter closed folders, since the interpreter and $tmp may lie below one
enter=dac_read_search
as() { HOME=$tmp/home USER=b LOGNAME=b setpriv --reuid=12346 --regid=5000 --clear-groups --inh-caps=+$enter --ambient-caps=+$enter "$@"; }
as true || exit 2
as git config --global --add safe.directory '*'; as lct status --scale smoke > /dev/null || exit 2
rm "$(find results -type l -name '*.json' | head -1)"
as lct restore > out 2>&1 || { tail -1 out; bad "one bare errno, no file named"; }
as lct verify --scale smoke > out 2>&1 && good "restored"; tail -3 out; bad "not as recorded"
