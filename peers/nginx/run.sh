#!/bin/sh
# nginx in front of the backend. With SETTINGS=best, worker_shutdown_timeout is set.
. "$(dirname "$0")/../proxy.sh"
fill nginx.conf
exec "$out/nginx/usr/sbin/nginx" -e stderr -p "$run" -c "$run/nginx.conf"
