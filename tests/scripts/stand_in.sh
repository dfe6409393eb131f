#!/bin/sh
# A mock of the program for scripts/gpu-check. It prints the output of a correct program on a GPU, at once. OVERRIDES go
# first.
here=$(dirname "$0")
echo "$* OSP_KERNELS=$OSP_KERNELS BLOCKING=$CUDA_LAUNCH_BLOCKING MODEL=$OSP_MODEL" >>"$here/calls"
option() { # the value after an option
  name=$1
  shift
  while [ $# -gt 1 ]; do
    [ "$1" != "$name" ] || { echo "$2"; return; }
    shift
  done
}
case "$*" in
  # OVERRIDES
  doctor) printf 'driver       CUDA 13.0\ngpu          Stand-in, 132 multiprocessors\nruns         sm_90a\n' ;;
  'selftest --help') echo 'facts --quick' ;;
  'profile --help') echo '--repeat' ;;
  selftest*) printf 'pass  %s_large_f16   0.43 of allowed, 37 cases\n%s: 1 kernel passed\n' "$2" "$2" ;;
  verify*)
    printf 'pass  latte  video.output                   relative L2              5.0e-4 of 1.0e-3\n'
    printf 'pass  pipeline  video.video                 PSNR                     4.0e1 of 3.0e1\n2 checks, all passed, in 0.1 s\n'
    ;;
  sample*)
    path=$(option -o "$@") && echo 'some frames' >"$path" && echo "$path"
    steps=$(option --steps "$@")
    printf '{"model_calls": %s, "seconds": {"text": 1, "denoise": %s, "decode": 2}, "memory": [{"stage": "transformer", "arena_bytes": 1073741824}]}' \
      "${steps:-1}" "${steps:-1}" >"$path.json"
    ;;
  profile*)
    seconds=0.2
    case "$OSP_KERNELS" in *quick) seconds=0.1 ;; *slow) seconds=0.3 ;; esac
    trace=$(option --trace "$@")
    [ -z "$trace" ] || cat >"$trace" <<EVENTS
{"otherData": {"durations": "measured on the GPU"}, "traceEvents": [{"ph": "M", "tid": 1, "args": {"name": "denoise"}},
 {"ph": "X", "name": "linear_large_f16", "dur": 600.0, "args": {"flops": 277226717184, "bytes": 328826880}}]}
EVENTS
    row() { printf '{"kernel": "%s", "calls": 7, "flops": 60000000000000, "bytes": 1000000000, "gpu_seconds": %s, "bound_seconds": 0.06}' "$1" "$2"; }
    printf '{"model": "v1.1.0", "frames": 65, "height": 512, "width": 512, "stages": [{"stage": "denoise", "what": "one step", "kernels": [%s, %s, %s, %s], "all": %s}]}\n' \
      "$(row linear_large_f16 0.1)" "$(row attention_q128_d72_f16 0.05)" "$(row add_rows_f16 0.04)" "$(row combine_f16 0.01)" "$(row all $seconds)"
    ;;
  plan*) echo 'osp: error: decode: out of memory: needs 64 MiB, 1 MiB are free; allow 64 MiB (--memory 64MiB)' >&2; exit 4 ;;
  *) echo "stand-in: $*" >&2; exit 2 ;;
esac
