#!/bin/bash
# project renamed to a name with quotes, spaces, unicode: one line, lct restore, nothing to be done (behaved)
. "$(dirname "$0")/situation.sh"
cd ..; mv p "it's \"ü\" \$HOME #% [b]*"; cd it*; export PYTHONPATH=$PWD
snakemake -n --config scale=smoke 2>&1 | grep -q 'the project was moved' || bad "no clear line"; lct restore > /dev/null || bad restore
snakemake -n --config scale=smoke 2>&1 | grep -q 'Nothing to be done' && good "nothing to be done"; bad "it plans jobs"
