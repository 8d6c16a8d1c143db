#!/bin/sh
# HAProxy in front of the backend, in the foreground. With SETTINGS=best, its settings for an end.
. "$(dirname "$0")/../proxy.sh"
fill haproxy.cfg
for folder in "$out"/haproxy/usr/lib/*-linux-gnu; do
    export LD_LIBRARY_PATH="$folder"
done
exec "$out/haproxy/usr/sbin/haproxy" -db -f "$run/haproxy.cfg"
