#!/bin/sh
# Envoy in front of the backend.
. "$(dirname "$0")/../proxy.sh"
fill envoy.yaml
for envoy in "$out"/envoy/lib/python*/site-packages/envoy/_bin/envoy; do :; done
# --use-dynamic-base-id: several may run beside each other.
exec "$envoy" --config-path "$run/envoy.yaml" --log-level warning --use-dynamic-base-id \
    --admin-address-path "$run/admin" --drain-time-s "$GRACE" --drain-strategy immediate
