#!/bin/sh
# Create a virtual environment in $1 with the first Python that is new enough: $2, or what is on PATH.
set -eu
folder=$1
for name in ${2:-python3 python3.13 python3.12 python3.11}; do
    command -v "$name" >/dev/null 2>&1 || continue
    # A shim may be on PATH and still have no Python behind it, so it is asked.
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        echo "creating $folder with $("$name" -V 2>&1)"
        "$name" -m venv "$folder" && exit 0
        rm -rf "$folder"
        echo "$name -m venv failed; on Debian and Ubuntu: apt-get install python3-venv" >&2
        exit 1
    fi
done
echo "no Python 3.11 or newer found (looked for ${2:-python3, python3.13, python3.12, python3.11}); name one: make PYTHON=/path/to/python3" >&2
exit 1
