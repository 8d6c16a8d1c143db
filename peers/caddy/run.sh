#!/bin/sh
# Caddy in front of the backend. With SETTINGS=best, its grace_period is set.
. "$(dirname "$0")/../proxy.sh"
fill Caddyfile
# Nothing of it lands in the home folder.
export XDG_CONFIG_HOME="$run" XDG_DATA_HOME="$run"
exec "$out/caddy/bin/caddy" run --config "$run/Caddyfile" --adapter caddyfile
