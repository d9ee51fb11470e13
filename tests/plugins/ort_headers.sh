#!/usr/bin/env bash
# Unpack onnxruntime's headers from Debian's libonnxruntime-dev into a folder; nothing is installed.
#
#     tests/plugins/ort_headers.sh FOLDER [SUITE]
#
# The package comes from this machine's own Debian mirror, at a suite that has it, and is verified
# with Debian's keys. Fails where there is no Debian mirror. FOLDER/usr is ONNXRUNTIME_ROOT.
set -euo pipefail

folder=$(mkdir -p "$1" && cd "$1" && pwd)
suite=${2:-trixie}

mirror=$(apt-get indextargets --format '$(REPO_URI)' \
    'Created-By: Packages' 'Label: Debian' 'Component: main' 2>/dev/null | head -n 1)
if [ -z "$mirror" ]; then
    echo "no Debian mirror is configured here, or apt-get update has not run" >&2
    exit 1
fi
keys=/usr/share/keyrings/debian-archive-keyring.gpg

apt=$folder/apt
mkdir -p "$apt"/{etc,state/lists/partial,cache/archives/partial}
echo "deb [signed-by=$keys] $mirror $suite main" >"$apt/etc/sources.list"
options=(-qq
    -o "Dir::Etc::sourcelist=$apt/etc/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State=$apt/state" -o Dir::State::status=/var/lib/dpkg/status
    -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root)
apt-get "${options[@]}" update
(cd "$apt" && apt-get "${options[@]}" download libonnxruntime-dev)
dpkg-deb -x "$apt"/libonnxruntime-dev_*.deb "$folder"
rm -r "$apt"
