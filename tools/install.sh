#!/bin/sh
# Install this project with the extras $2 into the environment whose programs are in $1; a file of requirements $3 is
# installed without what those depend on.
# uv is several times faster than pip; where it cannot be had, or does not find what pip is configured to find, pip does it.
set -eu
bin=$1
extras=$2
alone=${3:-}
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

install() { # with the extras, and then what comes alone
    "$@" -c requirements/constraints.txt -e ".[$extras]" && { [ -z "$alone" ] || "$@" --no-deps -r "$alone"; }
}

echo "installing nexa-compute[$extras] into ${bin%/bin} (once; a few minutes)"
if [ -x "$bin/uv" ] || "$bin/python" -m pip install -qq uv; then
    if install "$bin/uv" pip install --quiet --python "$bin/python"; then
        exit 0
    fi
    echo "uv could not; trying pip" >&2
fi
install "$bin/python" -m pip install -qq
