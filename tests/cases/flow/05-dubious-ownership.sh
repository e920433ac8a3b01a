#!/bin/bash
# the checkout belongs to another user (container, group): git refuses it; the message must say that, not "found none"
. "$(dirname "$0")/situation.sh"
[ "$(id -u)" = 0 ] || exit 2; chown -R 12345 "$tmp/p"; export HOME=$tmp/home; mkdir "$HOME"
git status > /dev/null 2>&1 && exit 2
lct record --scale smoke > out 2>&1 && good "recorded"; cat out
grep -qiE 'safe.directory|owner' out && good "the message names ownership"
bad "the message sends the user to clone again"
