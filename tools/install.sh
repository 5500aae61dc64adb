#!/bin/sh
# Install this project with the extras $2 into the environment whose programs are in $1.
# uv is several times faster than pip; where it cannot be had, or does not find what pip is configured to find, pip does it.
set -eu
bin=$1
extras=$2
export PIP_DISABLE_PIP_VERSION_CHECK=1 UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-180}"
# uv reads none of pip's variables. Lists are separated by spaces for pip, by commas or spaces for uv.
if [ -n "${PIP_FIND_LINKS:-}" ]; then
    UV_FIND_LINKS="${UV_FIND_LINKS:-$(echo "$PIP_FIND_LINKS" | tr -s ' ' ',')}"
    export UV_FIND_LINKS
fi
if [ -n "${PIP_INDEX_URL:-}" ]; then
    UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}"
    export UV_DEFAULT_INDEX
fi
if [ -n "${PIP_EXTRA_INDEX_URL:-}" ]; then
    UV_INDEX="${UV_INDEX:-$PIP_EXTRA_INDEX_URL}"
    export UV_INDEX
fi
if [ -n "${PIP_CERT:-}" ]; then
    SSL_CERT_FILE="${SSL_CERT_FILE:-$PIP_CERT}"
    export SSL_CERT_FILE
fi

echo "installing nexa-compute[$extras] into ${bin%/bin} (once; a few minutes)"
if [ -x "$bin/uv" ] || "$bin/python" -m pip install -qq uv; then
    if "$bin/uv" pip install --quiet --python "$bin/python" -c requirements/constraints.txt -e ".[$extras]"; then
        exit 0
    fi
    echo "uv could not; trying pip" >&2
fi
exec "$bin/python" -m pip install -qq -c requirements/constraints.txt -e ".[$extras]"
