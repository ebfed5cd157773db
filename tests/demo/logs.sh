#!/bin/bash
# Prints what a person would ask for first after a failed run: resources, events, the last lines of our logs.
set -u
repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export K8S_DIR=${K8S_DIR:-$repo/target/cluster}
export KUBECONFIG=${KUBECONFIG:-$K8S_DIR/kubeconfig} PATH=$K8S_DIR/bin:$PATH
kubectl get kesclusters,tenants,statefulsets,pods -A -o wide
kubectl -n kes get kesclusters -o yaml | tail -80
kubectl get events -A --sort-by=.lastTimestamp | tail -40
kubectl -n kes-operator logs deployment/kes-operator --tail=60
kubectl -n kes logs kes-0 --tail=40
for p in $(kubectl get pods -n tenant-lite -o name | head -2); do kubectl -n tenant-lite logs "$p" --all-containers --tail=20; done
