#!/usr/bin/env bash
# Install the real services that the integration tests talk to (Debian packages).
# Root and apt: installs. Otherwise: one line that says what the tests will skip. With CI=true a missing package is an error.
set -uo pipefail

packages=(
  orthanc orthanc-dicomweb dcmtk dicom3tools           # PACS, DICOM tools, IOD referee
  chromium fonts-noto-cjk libatomic1                   # browser tests, Chinese glyphs, what their driver links to
  unzip                                                # opens series objects
  postgresql                                           # ledger and Airflow on PostgreSQL
  docker.io docker-compose mmdebstrap                  # images and compose file
  ceph-mon ceph-osd ceph-mgr radosgw ceph-common bc curl   # S3 (Ceph RGW)
)

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true)
  [[ $status == "install ok installed" ]] || missing+=("$package")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

if [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; then
  echo "installing ${missing[*]}"
  # A service must not start by itself: the tests start their own on free ports.
  policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -q && apt-get install -qy --no-install-recommends "${missing[@]}"; } >/tmp/radlake-apt.log 2>&1 && exit 0
  tail -n 5 /tmp/radlake-apt.log
fi

if [[ ${CI:-} == true ]]; then
  echo "CI needs these packages and could not install them: ${missing[*]}" >&2
  exit 1
fi
echo "skipping the tests that need: ${missing[*]} (install them as root with: apt-get install ${missing[*]})"
