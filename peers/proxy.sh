# Sourced by the run.sh of a proxy. Starts the backend, makes a folder for the run, and fills the configuration.
# The backend removes the folder when the proxy, which takes over this process, is gone.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "$here/../../target/peers" && pwd)
run=$(mktemp -d "$out/run.XXXXXX")
BACKEND=$("$out/rust/release/backend" $$ "$run")
GRACE=${GRACE:-30}
TLS_PORT=${TLS_PORT:-}

# fill FILE: FILE of this peer with @PORT@, @TLS_PORT@, @BACKEND@, @GRACE@ and @RUN@ put in, into the run's folder.
# Lines marked "# best" are left out unless SETTINGS=best, and those from "# tls" to "# end of tls" unless TLS_PORT is set.
fill() {
    sed -e "s|@PORT@|$PORT|g" -e "s|@TLS_PORT@|$TLS_PORT|g" -e "s|@BACKEND@|$BACKEND|g" -e "s|@GRACE@|$GRACE|g" \
        -e "s|@RUN@|$run|g" "$here/$1" >"$run/$1"
    [ "${SETTINGS:-}" = best ] || sed -i '/# best$/d' "$run/$1"
    [ -n "$TLS_PORT" ] || sed -i '/# tls$/,/# end of tls$/d' "$run/$1"
}
