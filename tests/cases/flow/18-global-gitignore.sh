#!/bin/bash
# a user's global gitignore with *.lock
. "$(dirname "$0")/situation.sh"
unrecorded; export HOME=$tmp/home; mkdir "$HOME"; printf '*.lock\n' > "$HOME/ignore"; git config --global core.excludesfile "$HOME/ignore"
lct record --scale smoke > out 2>&1 && good "recorded"; cat out
grep -q 'git-ignored\.$' out && bad "not recorded, and the line has no remedy"; good "clear"
