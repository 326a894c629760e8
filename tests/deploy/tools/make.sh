#!/usr/bin/env bash
# Put what the checks of chart, image and compose file need into .cache/deploy. What cannot be had is said, and the
# checks that need it are skipped with that reason.
set -uo pipefail
cd "$(dirname "$0")"
root=$(cd ../../.. && pwd)
to=$root/.cache/deploy
mkdir -p "$to"

if command -v go >/dev/null; then
  while read -r name folder package; do
    [ -x "$to/$name" ] || echo "building $name (once)"
    go build -C "$folder" -trimpath -o "$to/$name" "$package" || echo "$name was not built: its checks are skipped"
  done <<'TOOLS'
helm . ./helm
compose-spec . github.com/compose-spec/compose-go/v2/cmd
actionlint actionlint github.com/rhysd/actionlint/cmd/actionlint
TOOLS
else
  echo "no Go here: what is written in Go is skipped, unless helm is on the path"
fi

if ! cmp -s requirements.lock "$to/python/requirements.lock"; then
  rm -rf "$to/python"
  if "$root/.venv/bin/python" -m venv "$to/python" &&
    "$to/python/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock; then
    cp requirements.lock "$to/python/requirements.lock"
  else
    echo "hadolint and kubernetes-validate were not installed: their checks are skipped"
  fi
fi
