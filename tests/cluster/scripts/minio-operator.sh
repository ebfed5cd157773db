#!/bin/bash
# Installs what turns Tenants into MinIO pods, and waits until it runs. KUBECONFIG says where.
#
#   MINIO_OPERATOR_IMAGE_ARCHIVE and MINIO_SIDECAR_IMAGE_ARCHIVE name image archives: the real MinIO Operator.
#   MINIO_OPERATOR_IMAGE (and MINIO_SIDECAR_IMAGE) name images in a registry that the nodes reach: the real one.
#   MINIO_OPERATOR_KUSTOMIZE names a kustomization, local or remote: the real one as its project installs it.
#   None of these: our stand-in (tests/standin), whose image must have been made by test-images.sh.
#   MINIO_TENANT_CRD names a file or a folder: that CustomResourceDefinition instead of our minimal one.
#   LOAD_IMAGES: the command that brings archives into the nodes (default: load-images.sh of this kit).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../env.sh"
M=$SRC/manifests-minio
LOAD_IMAGES=${LOAD_IMAGES:-$SRC/scripts/load-images.sh}
: "${KUBECONFIG:?set KUBECONFIG to the cluster in which Tenants are to work}"

# the first name that an archive gives its image
image_in() {
  local name
  name=$(tar -xOf "$1" manifest.json 2>/dev/null | jq -r '.[0].RepoTags[0] // empty')
  [ -n "$name" ] || die "$1 is not an image archive with a name in it (docker save or buildah commit docker-archive:FILE:NAME makes one)."
  echo "$name"
}
real() { sed -e "s#OPERATOR_IMAGE\$#$1#" -e "s#value: SIDECAR_IMAGE#value: \"$2\"#" "$M/operator-real.yaml" | kubectl apply -f - >/dev/null; }

if [ -n "${MINIO_OPERATOR_KUSTOMIZE:-}" ] && [ -z "${MINIO_OPERATOR_IMAGE_ARCHIVE:-}${MINIO_OPERATOR_IMAGE:-}" ]; then
  if kubectl apply --server-side --force-conflicts -k "$MINIO_OPERATOR_KUSTOMIZE" >/dev/null; then
    established tenants.minio.min.io
    kubectl -n minio-operator rollout status deploy/minio-operator --timeout=300s >/dev/null \
      || die "the MinIO Operator of $MINIO_OPERATOR_KUSTOMIZE did not start in 300 s; its image may not be reachable. Unset MINIO_OPERATOR_KUSTOMIZE to use the stand-in."
    echo "Tenants are served by the MinIO Operator of $MINIO_OPERATOR_KUSTOMIZE"
    exit 0
  fi
  echo "cluster: $MINIO_OPERATOR_KUSTOMIZE could not be applied; going on with the stand-in" >&2
fi

# server-side, because the real CRD is larger than the annotation that client-side apply would write
kubectl apply --server-side --force-conflicts -f "${MINIO_TENANT_CRD:-$M/tenant-crd.yaml}" >/dev/null
established tenants.minio.min.io

if [ -n "${MINIO_OPERATOR_IMAGE_ARCHIVE:-}" ] || [ -n "${MINIO_SIDECAR_IMAGE_ARCHIVE:-}" ]; then
  for f in "${MINIO_OPERATOR_IMAGE_ARCHIVE:-}" "${MINIO_SIDECAR_IMAGE_ARCHIVE:-}"; do
    [ -f "$f" ] || die "the real MinIO Operator needs two archives; MINIO_OPERATOR_IMAGE_ARCHIVE and MINIO_SIDECAR_IMAGE_ARCHIVE must both name a file."
  done
  $LOAD_IMAGES "$MINIO_OPERATOR_IMAGE_ARCHIVE" "$MINIO_SIDECAR_IMAGE_ARCHIVE" >/dev/null
  what="the MinIO Operator from image archives"
  real "$(image_in "$MINIO_OPERATOR_IMAGE_ARCHIVE")" "$(image_in "$MINIO_SIDECAR_IMAGE_ARCHIVE")"
elif [ -n "${MINIO_OPERATOR_IMAGE:-}" ]; then
  what="the MinIO Operator $MINIO_OPERATOR_IMAGE"
  real "$MINIO_OPERATOR_IMAGE" "${MINIO_SIDECAR_IMAGE:-${MINIO_OPERATOR_IMAGE/operator:/operator-sidecar:}}"
else
  what="a stand-in for the MinIO Operator (tests/standin), since its images cannot be had here"
  kubectl apply -f "$M/operator-standin.yaml" >/dev/null
fi
kubectl -n minio-operator rollout status deploy/minio-operator --timeout=120s >/dev/null \
  || { kubectl -n minio-operator get pods >&2; die "$what did not start in 120 s; see 'kubectl -n minio-operator describe pods'"; }
echo "Tenants are served by $what"
