#!/usr/bin/env bash
# Installs Chromium from the distribution's archive on Debian, for the tests that open the report in a real browser.
#
#   sudo scripts/install-chromium-debian.sh
#
# Does nothing where a Chromium or Chrome is already there. Ubuntu's package of that name only points to a snap, which
# does not run in containers, so there the script says so and leaves.
set -euo pipefail

say() { printf 'install-chromium-debian: %s\n' "$*"; }
fail() { printf 'install-chromium-debian: %s\n' "$*" >&2; exit 1; }

for name in chromium chromium-browser google-chrome; do
    if found=$(command -v "$name"); then
        say "already there: $found ($("$found" --version 2>/dev/null || echo 'version unknown'))"
        exit 0
    fi
done

id=$(. /etc/os-release 2>/dev/null && echo "${ID:-unknown}" || echo unknown)
[ "$id" = debian ] || fail "this is for Debian and the system is $id; install Chromium or Chrome by its own means."
[ "$(id -u)" = 0 ] || fail "installing packages needs root; run \`sudo $0\`."

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
say "installed: $(chromium --version)"
