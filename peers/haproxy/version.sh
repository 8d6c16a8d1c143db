#!/bin/sh
# HAProxy's own libraries lie where it was unpacked.
home=$(dirname "$0")/../../target/peers/haproxy
for folder in "$home"/usr/lib/*-linux-gnu; do
    export LD_LIBRARY_PATH="$folder"
done
exec "$home/usr/sbin/haproxy" -v
