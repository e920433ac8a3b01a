# Read by each script of this folder, which takes FINISHED_SMOKE_TREE: a finished, recorded smoke tree with a .venv. Works on
# a copy. Exit code 0: the product behaves; 1: it does not; 2: it cannot be tried on this machine.
set -u
tree=$(cd "${1:?a finished, recorded smoke tree}" && pwd -P)
bin=$(readlink -f "$tree/.venv")/bin
tmp=$(mktemp -d "${TMPDIR:-/var/tmp}/case.XXXXXX")
trap 'cd /; rm -rf "$tmp"' EXIT
cp -a "$tree" "$tmp/p" && cd "$tmp/p" || exit 2
export PYTHONPATH=$PWD PATH=$bin:$PATH OMP_NUM_THREADS=1
lct restore > /dev/null || exit 2
bad() { echo "DEFECT: $*"; exit 1; }
good() { echo "OK: $*"; exit 0; }
unrecorded() { # plain files, nothing recorded, a cache of its own
  find results reports/smoke -type l | while read -r l; do t=$(readlink "$l"); rm "$l"; cp -p "$t" "$l"; chmod 644 "$l"; done
  git checkout -q -- dvc.yaml; rm -rf dvc.lock lineage .dvc/cache .dvc/tmp
}
