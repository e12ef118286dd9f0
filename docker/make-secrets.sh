#!/usr/bin/env bash
# Make docker/secrets, once: every service reads what it needs from a file, none from its environment.
# Keep a copy of root_key in a safe: without it, later studies of a person get another pseudonym.
set -euo pipefail
cd "$(dirname "$0")"
if [[ -e secrets ]]; then
  echo "docker/secrets is there, left alone"
  exit
fi
umask 077
mkdir secrets.new
random() { head -c "$1" /dev/urandom | od -An -vtx1 | tr -d ' \n'; }
password=$(random 24)
random 32 >secrets.new/root_key
random 64 >secrets.new/airflow_jwt
random 10 >secrets.new/s3_access_key
random 20 >secrets.new/s3_secret_key
head -c 32 /dev/urandom | base64 | tr '+/' '-_' >secrets.new/airflow_fernet
printf '%s' "$password" >secrets.new/postgres_password
printf 'postgresql+psycopg2://radlake:%s@postgres/radlake' "$password" >secrets.new/ledger_url
printf 'postgresql+psycopg2://radlake:%s@postgres/airflow' "$password" >secrets.new/airflow_url
printf '{"admin": "%s", "analyst": "%s"}\n' "$(random 12)" "$(random 12)" >secrets.new/airflow_passwords
chmod 444 secrets.new/*  # the users in the containers read them; the folder is closed to everybody else
mv secrets.new secrets
echo "made docker/secrets; Airflow's passwords are in docker/secrets/airflow_passwords"
