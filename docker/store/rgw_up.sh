#!/usr/bin/env bash
# One Ceph node with its S3 gateway: rgw_up.sh DIR S3_PORT [TLS_PORT] MON_PORT; for TLS, DIR holds tls.pem and tls.key.
# A DIR that has one is started again.
# Everything it writes is in DIR, everything it starts has a pid file in DIR/run. BlueStore, so that it survives a kill.
# RGW_ADDRESS (127.0.0.1), RGW_DNS_NAME (localhost), RGW_ACCESS_KEY (lakekey) and RGW_SECRET_KEY (lakesecret) may be set.
set -euo pipefail
dir=${1:?folder} s3_port=${2:?S3 port} mon_port=${4:-${3:?monitor port}}
tls=${4:+ssl_endpoint=127.0.0.1:$3 ssl_certificate=$dir/tls.pem ssl_private_key=$dir/tls.key}
export CEPH_CONF=$dir/ceph.conf

up() {
  ceph-mon --id a
  [[ $# -eq 0 ]] || "$@"
  ceph-osd --id 0
  radosgw --name client.rgw.a
  for _ in $(seq 600); do
    curl --silent --output /dev/null "http://127.0.0.1:$s3_port/" && return
    sleep 0.1
  done
  return 1
}

if [[ -e $dir/user.json ]]; then
  rm -f "$dir"/run/*
  up
  exit
fi

rm -rf "$dir"/{mon,osd,rgw,log,run}
mkdir -p "$dir"/{mon,osd,rgw,log,run}
cat >"$CEPH_CONF" <<CONF
[global]
fsid = $(cat /proc/sys/kernel/random/uuid)
mon host = [v2:127.0.0.1:$mon_port/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = $dir/keyring
run dir = $dir/run
pid file = $dir/run/\$name.pid
admin socket = $dir/run/\$name.asok
log file = $dir/log/\$name.log
crash dir = $dir/log
# one copy of everything, and no complaint about it
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data avail warn = 1
mon data avail crit = 1
[mon]
mon data = $dir/mon
mon cluster log file = $dir/log/cluster.log
mon memory autotune = false
# the default of 1 s for each of some dozen map changes is most of the start
paxos propose interval = 0.05
paxos min wait = 0.01
[osd]
osd data = $dir/osd
osd objectstore = bluestore
bluestore block size = 4294967296
bluestore fsck on mkfs = false
osd memory target = 939524096
osd class load list = *
osd class default list = *
[client]
rgw data = $dir/rgw
rgw frontends = beast endpoint=${RGW_ADDRESS:-127.0.0.1}:$s3_port $tls
rgw dns name = ${RGW_DNS_NAME:-localhost}
rgw crypt require ssl = false
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = lake-key=$(head -c 32 /dev/zero | tr '\0' k | base64)
CONF
fsid=$(sed -n 's/^fsid = //p' "$CEPH_CONF")

key() { ceph-authtool "$dir/keyring" --gen-key --name "$@" >/dev/null; }
: >"$dir/keyring"
key mon. --cap mon 'allow *'
key client.admin --cap mon 'allow *' --cap osd 'allow *'
key osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'
key client.rgw.a --cap mon 'allow rw' --cap osd 'allow rwx'

monmaptool --create --clobber --fsid "$fsid" --addv a "[v2:127.0.0.1:$mon_port/0]" "$dir/monmap" >/dev/null
ceph-mon --id a --mkfs --monmap "$dir/monmap" --keyring "$dir/keyring"

make_osd() {
  local uuid
  uuid=$(cat /proc/sys/kernel/random/uuid)
  timeout 60 ceph osd new "$uuid" 0 >/dev/null
  ceph-osd --id 0 --mkfs --osd-uuid "$uuid" 2>>"$dir/log/osd-mkfs.log"
}
up make_osd
radosgw-admin user create --uid=lake --display-name=lake --access-key="${RGW_ACCESS_KEY:-lakekey}" \
  --secret-key="${RGW_SECRET_KEY:-lakesecret}" >"$dir/user.json"
