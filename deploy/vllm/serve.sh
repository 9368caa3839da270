#!/usr/bin/env bash
# Start a vLLM server as jeton wants it:
#
#   deploy/vllm/serve.sh RECIPE [flags of vLLM's]     for instance: deploy/vllm/serve.sh llama-8b-awq-l4 --port 8001
#   deploy/vllm/serve.sh --print RECIPE               what would be started
#   deploy/vllm/serve.sh --list                       the recipes
#
# README.md beside this file tells what each flag is for, and what belongs into router.yaml.
set -euo pipefail

# What every recipe has. None of them changes what is answered.
common=(
  --enable-prompt-tokens-details # cached tokens in `usage`: they are cheaper
  --enable-request-id-headers    # jeton's attempt id in the answer and in vLLM's log
  --enable-per-request-metrics   # how long a request waited, by the server's own clock
  --shutdown-timeout 30          # running streams end well when the server is asked to stop
)

recipes() {
  sed -n 's/^  \([a-z0-9.-]*\)) # \(.*\)$/\1\t\2/p' "$0"
}

recipe() {
  case "$1" in
  llama-8b-awq-l4) # Llama 3.1 8B, AWQ of 4 bits, one L4 (24 GB)
    flags=(hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4 --max-model-len 16384 --max-num-seqs 64)
    ;;
  llama-8b-fp8-h100) # Llama 3.1 8B, FP8, one H100
    flags=(neuralmagic/Meta-Llama-3.1-8B-Instruct-FP8 --max-model-len 131072 --kv-cache-dtype fp8)
    ;;
  llama-8b-bf16-a100) # Llama 3.1 8B, BF16, one A100 of 80 GB
    flags=(meta-llama/Llama-3.1-8B-Instruct --max-model-len 131072)
    ;;
  llama-8b-int8-a100) # Llama 3.1 8B, INT8 weights and activations, one A100 of 80 GB
    flags=(neuralmagic/Meta-Llama-3.1-8B-Instruct-quantized.w8a8 --max-model-len 131072)
    ;;
  llama-70b-gptq-int4-a100) # Llama 3.1 70B, GPTQ of 4 bits, one A100 of 80 GB
    flags=(hugging-quants/Meta-Llama-3.1-70B-Instruct-GPTQ-INT4 --max-model-len 32768 --max-num-seqs 64)
    ;;
  llama-70b-fp8-2xh100) # Llama 3.1 70B, FP8, two H100
    flags=(neuralmagic/Meta-Llama-3.1-70B-Instruct-FP8 --tensor-parallel-size 2 --max-model-len 65536 --kv-cache-dtype fp8)
    ;;
  llama-70b-fp8-h200) # Llama 3.1 70B, FP8, one H200
    flags=(neuralmagic/Meta-Llama-3.1-70B-Instruct-FP8 --max-model-len 65536 --kv-cache-dtype fp8)
    ;;
  llama-70b-fp8-2xh100-speculative) # the same on two H100, with an 8B model that drafts
    flags=(neuralmagic/Meta-Llama-3.1-70B-Instruct-FP8 --tensor-parallel-size 2 --max-model-len 65536 --kv-cache-dtype fp8
      --speculative-config '{"method": "draft_model", "model": "meta-llama/Llama-3.1-8B-Instruct", "num_speculative_tokens": 3}')
    ;;
  llama-70b-nvfp4-b200) # Llama 3.3 70B, NVFP4, one B200
    flags=(nvidia/Llama-3.3-70B-Instruct-FP4 --max-model-len 131072 --kv-cache-dtype fp8)
    ;;
  qwen3-32b-bf16-2xh100) # Qwen3 32B, BF16, two H100
    flags=(Qwen/Qwen3-32B --tensor-parallel-size 2 --max-model-len 40960)
    ;;
  gpt-oss-120b-mxfp4-2xh100) # gpt-oss 120B, a mixture of experts of which 5B are active, MXFP4, two H100
    flags=(openai/gpt-oss-120b --tensor-parallel-size 2 --max-model-len 131072)
    ;;
  qwen3-30b-a3b-fp8-h100) # Qwen3 30B, a mixture of experts of which 3B are active, FP8, one H100
    flags=(Qwen/Qwen3-30B-A3B-Instruct-2507-FP8 --max-model-len 131072 --kv-cache-dtype fp8)
    ;;
  llama-1b-cpu) # Llama 3.2 1B, BF16, on a CPU: to try things out
    export VLLM_CPU_KVCACHE_SPACE="${VLLM_CPU_KVCACHE_SPACE:-4}"
    flags=(meta-llama/Llama-3.2-1B-Instruct --dtype bfloat16 --max-model-len 8192 --max-num-seqs 16)
    ;;
  *)
    echo >&2 "$0: there is no recipe $1; --list shows those there are"
    exit 2
    ;;
  esac
}

case "${1-}" in
--list) recipes ;;
--print)
  recipe "${2:?which recipe?}"
  printf '%q ' vllm serve "${flags[@]}" "${common[@]}"
  echo
  ;;
-* | '') sed -n '2,9s/^# \{0,1\}//p' "$0" && exit 2 ;;
*)
  recipe "$1"
  shift
  exec vllm serve "${flags[@]}" "${common[@]}" "$@"
  ;;
esac
