#!/bin/sh
# The first start makes the cluster with the databases `radlake` and `airflow` of the user `radlake`.
set -eu
if [ ! -s /data/PG_VERSION ]; then
  initdb -D /data -U radlake -E UTF8 --locale=C.UTF-8 -A scram-sha-256 --pwfile=/run/secrets/postgres_password >/dev/null
  echo "host all radlake all scram-sha-256" >>/data/pg_hba.conf
  for name in radlake airflow; do
    echo "CREATE DATABASE $name" | postgres --single -D /data postgres >/dev/null
  done
fi
exec postgres -D /data -c listen_addresses='*' -c unix_socket_directories=/tmp
