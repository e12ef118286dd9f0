#!/bin/bash
# Start the store on port 7480, and end it in order; what it holds is in the volume /data.
set -euo pipefail
stop() {
  for name in client.rgw.a osd.0 mon.a; do
    pid=$(cat "/data/run/$name.pid" 2>/dev/null) && kill "$pid" 2>/dev/null || continue
    while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
  done
}
trap 'stop; exit 0' TERM INT
RGW_ADDRESS=0.0.0.0 RGW_DNS_NAME=store RGW_ACCESS_KEY=$(cat /run/secrets/s3_access_key) RGW_SECRET_KEY=$(cat /run/secrets/s3_secret_key) \
  rgw_up.sh /data 7480 16789
while sleep 1 && kill -0 "$(cat /data/run/client.rgw.a.pid)"; do :; done
stop
exit 1
