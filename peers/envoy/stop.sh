#!/bin/sh
# Drains the listeners by the admin interface, as Envoy's documentation has it before a shutdown, and then shuts down:
# when nothing is active any more, or after GRACE.
set -eu
# It was told by its command line where to write its admin address.
file=$(tr '\0' '\n' <"/proc/$PID/cmdline" | grep -x -A 1 -e --admin-address-path | tail -n 1)
admin=http://$(cat "$file")

active() {
    curl -s "$admin/stats?filter=^http.public.downstream_cx_active$" | sed 's/.*: //'
}

curl -s -X POST "$admin/drain_listeners?graceful&skip_exit" >/dev/null
end=$(($(date +%s) + ${GRACE:-30}))
while [ "$(active)" != 0 ] && [ "$(date +%s)" -lt "$end" ]; do
    sleep 0.1
done
kill -s TERM "$PID"
