#!/bin/sh
# HAProxy in front of the backend, in the foreground. With SETTINGS=best, its settings for an end.
. "$(dirname "$0")/../proxy.sh"
fill haproxy.cfg
for folder in "$out"/haproxy/usr/lib/*-linux-gnu; do
    export LD_LIBRARY_PATH="$folder"
done
# A master loses a signal that comes right behind the start, so the graceful stop goes to the process itself.
[ "${SETTINGS:-}" = best ] && master= || master=-W
exec "$out/haproxy/usr/sbin/haproxy" $master -db -f "$run/haproxy.cfg"
