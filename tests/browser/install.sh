#!/bin/sh
# Find or install the browser of the tests; DEV_ENV is the development environment.
set -eu
if [ -x /usr/bin/chromium ]; then
  echo "browser: /usr/bin/chromium"
elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get -qq update >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y chromium >/dev/null
  echo "browser: /usr/bin/chromium, installed"
else
  "$DEV_ENV/bin/python" -m playwright install chromium >/dev/null
  echo "browser: Playwright's own Chromium"
fi
