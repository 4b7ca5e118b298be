#!/usr/bin/env bash
# Pin the newest Python packages that requirements*.in allow in requirements*.txt.
set -euo pipefail
cd "$(dirname "$0")/.."

tool=.cache/pip-tools
[[ -x $tool/bin/pip-compile ]] || { python3 -m venv "$tool" && "$tool/bin/pip" -q install pip-tools; }
for name in requirements requirements-dev; do
    "$tool/bin/pip-compile" --quiet --upgrade --strip-extras --no-header --no-emit-index-url \
        --no-emit-find-links --no-emit-trusted-host --no-emit-options -o "$name.txt" "$name.in"
done
