#!/bin/bash
# Upgrades our operator to another image by Helm, on the cluster that KUBECONFIG names, and back: the key servers that name
# no image follow, one after the other, on their volumes, and what was encrypted before is read after. The sample
# KesCluster kes-applications/applications must be Ready (samples.sh), the operator installed by Helm.
# Environment: KES_BINARY (our binary), TAG_IMAGE (gives an image in the nodes a second name; default: this kit's)
set -euo pipefail
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
: "${KUBECONFIG:?upgrade.sh needs KUBECONFIG}"
NS=kes-applications NAME=applications
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
die() { echo "upgrade: $*" >&2; exit 1; }
ln -s "$(realpath "${KES_BINARY:-$repo/target/debug/kes}")" "$work/kubectl-kes"
kes() { "$work/kubectl-kes" "$@" -n $NS --cluster $NAME; }

"${TAG_IMAGE:-$repo/tests/cluster/scripts/tag-image.sh}" localhost/kes:dev localhost/kes:next
key=upgrade-$(date +%s)
kes key create "$key"
before=$(echo "before the upgrade" | kes key encrypt "$key" - | cut -d'"' -f4)
claim() { kubectl -n $NS get pvc "data-$NAME-0" -o jsonpath='{.metadata.uid}'; }
volume=$(claim)

for tag in next dev; do
  began=$SECONDS
  helm upgrade kes-operator "$repo/charts/kes-operator" --namespace kes-operator --reuse-values --set image.tag=$tag >/dev/null
  kubectl -n kes-operator rollout status deployment/kes-operator --timeout=150s >/dev/null || die "the operator with the image $tag did not become ready"
  for _ in $(seq 240); do
    image=$(kubectl -n $NS get pod "$NAME-0" -o jsonpath='{.spec.containers[0].image}' 2>/dev/null || true)
    if [ "$image" = "localhost/kes:$tag" ] && kubectl -n $NS wait --for=condition=Ready "pod/$NAME-0" --timeout=60s >/dev/null; then break; fi
    sleep 0.5
  done
  [ "$image" = "localhost/kes:$tag" ] || die "the key server runs $image and not localhost/kes:$tag"
  kubectl -n $NS wait --for=condition=Ready "kescluster/$NAME" --timeout=60s >/dev/null
  [ "$(claim)" = "$volume" ] || die "the key server is on another volume"
  after=$(echo "$before" | kes key decrypt -p "$key" -)
  [ "$after" = "before the upgrade" ] || die "what was encrypted before reads '$after'"
  echo "upgraded to the image $tag: the key server followed and reads what was encrypted before, after $((SECONDS - began)) s"
done
