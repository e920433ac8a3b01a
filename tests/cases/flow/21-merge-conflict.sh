#!/bin/bash
# two branches with other recordings of the same files: the printed commands join them, and then nothing is left to do
. "$(dirname "$0")/situation.sh"
g() { git -c user.name=t -c user.email=t@e "$@"; }
out=$tmp/out # outside the checkout, whose files are all committed
g add -A; g commit -qm base; g checkout -qb other
for b in 16 8; do
  sed -i "s/num_images: 64, batch: [0-9]*, draws/num_images: 64, batch: $b, draws/" config/scales/smoke.yaml
  snakemake --config scale=smoke > "$out" 2>&1 || { tail -3 "$out"; exit 2; }
  g add -A; g commit -qm "batches of $b"; [ $b = 16 ] && { g checkout -q -; lct restore > /dev/null; }
done
g merge other > /dev/null 2>&1; g checkout -q --ours config/scales/smoke.yaml; g add config/scales/smoke.yaml
lct record --scale smoke > "$out" 2>&1; cat "$out"
hint=$(grep -o '`lct merge[^`]*`' "$out" | head -1 | tr -d '`'); [ -n "$hint" ] || bad "no command joins the recordings"
if ! $hint > "$out" 2>&1; then
  cat "$out"; choice=$(grep -o -- '--ours' "$out" | head -1); [ -n "$choice" ] || bad "no choice is offered"
  $hint $choice > "$out" 2>&1 || { cat "$out"; bad "the choice does not work"; }
fi
g commit -qm joined || bad "git still has conflicts"
lct restore > "$out" 2>&1; snakemake --config scale=smoke > "$out" 2>&1 || { tail -3 "$out"; bad "no run follows"; }
lct verify --deep --scale smoke > "$out" 2>&1 || { tail -3 "$out"; bad "not as recorded"; }
snakemake -n --config scale=smoke 2>&1 | grep -q 'Nothing to be done' && good "as recorded"; bad "it plans jobs"
