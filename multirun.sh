#!/usr/bin/env bash
# The paper's grids: ./multirun.sh table2 [overrides]. PYTHON names the interpreter.
set -euo pipefail
conf="$(dirname "$0")/conf/sweep"
if [[ ! -f "$conf/${1:-}.yaml" ]]; then
  names=$(basename -s .yaml "$conf"/*.yaml | paste -sd ' ')
  echo "usage: $0 NAME [overrides], where NAME is one of: $names" >&2
  exit 2
fi
exec "${PYTHON:-python}" -m lamp_exp -m "+sweep=$1" "${@:2}"
