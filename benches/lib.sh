# What the programs of benches/ share: processes that end with the script, ports, memory. Sourced; `program` is the caller's name.

die() { echo "$program: $*" >&2; exit 1; }
note() { echo "$program: $*" >&2; }

work="$(mktemp -d)"
children=()
proxies=()
sysctls=()
cleanup() {
  # Only what was started here, each by its id. The load tools end by themselves once their standard input is closed.
  stop_proxies
  for pid in "${children[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  for setting in "${sysctls[@]}"; do sysctl -q -w "$setting" 2>/dev/null || true; done
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

target_dir="${CARGO_TARGET_DIR:-target}"
load="$target_dir/release/holdline-peers-load"
holdline="${HOLDLINE:-$target_dir/release/holdline}"

build() { # build PACKAGE…: those that the environment does not bring along
  command -v cargo >/dev/null || die "\`cargo\` is missing; install Rust with rustup"
  local packages=()
  for package in "$@"; do
    [ "$package" = holdline ] && [ -n "${HOLDLINE:-}" ] || packages+=(-p "$package")
  done
  cargo build --release --quiet "${packages[@]}"
}

descriptors() { # descriptors N: that many open files for every process started from here
  ulimit -n "$(ulimit -Hn)"
  [ "$(ulimit -n)" = unlimited ] || [ "$(ulimit -n)" -ge "$1" ] || die "$1 open files are needed, this shell may have $(ulimit -n)"
}

raise() { # raise SYSCTL VALUE: until the end, if this is root and it is lower
  local before; before="$(sysctl -n "$1" 2>/dev/null)" || return 0
  [ "$before" -lt "$2" ] || return 0
  if [ "$(id -u)" = 0 ] && sysctl -q -w "$1=$2" 2>/dev/null; then
    note "$1 is $2 until the end (was $before)"
    sysctls+=("$1=$before")
  else
    note "$1 is $before; $2 would be better, which takes root"
  fi
}

port_free() { # port_free IP PORT VARIABLE
  if (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; then die "port $2 of $1 is in use; set $3 to another"; fi
}

# started NAME COMMAND…: runs it until its pipe is closed, waits for its `ready`; the pipe's number is in $pipe, its id in $started.
started() {
  local name="$1"; shift
  mkfifo "$work/$name.in"
  timeout 3600 "$@" <"$work/$name.in" >"$work/$name.out" 2>"$work/$name.err" &
  started=$!
  children+=("$started")
  exec {pipe}>"$work/$name.in"
  rm "$work/$name.in"
  for _ in $(seq 1200); do
    grep -q ready "$work/$name.out" && return
    kill -0 "$started" 2>/dev/null || break
    sleep 0.1
  done
  die "$name: $(cat "$work/$name.err")"
}

# ended PIPE ID…: closes the pipes and waits. A later one inherits the pipes of earlier ones, so all are closed before any is awaited.
ended() {
  local pipe ids=()
  while [ $# -gt 0 ]; do
    pipe="$1"; ids+=("$2"); shift 2
    exec {pipe}>&-
  done
  wait "${ids[@]}" || true
}

stop_proxies() {
  # Not SIGTERM: Holdline would close its sessions at a pace first. A parent first, so that it starts no new worker.
  for pid in "${proxies[@]}"; do
    local workers; workers="$(children_of "$pid")"
    kill -KILL "$pid" $workers 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  proxies=()
}

children_of() { cat "/proc/$1/task/"*/children 2>/dev/null || true; }

# All processes of the proxies, workers included, with commas between.
proxy_pids() {
  local pids=()
  for pid in "${proxies[@]}"; do pids+=("$pid" $(children_of "$pid")); done
  local IFS=,; echo "${pids[*]}"
}

pss() { # user memory of the proxies in bytes; the kernel's sockets are not in it
  local total=0 pid
  for pid in $(tr , ' ' <<<"$(proxy_pids)"); do
    total=$((total + $(awk '/^Pss:/ { print $2 * 1024 }' "/proc/$pid/smaps_rollup")))
  done
  echo "$total"
}

each_backend() { # each_backend LINE: with NUMBER, IP, PORT and ADDRESS filled in
  for i in $(seq "$backends"); do
    local line="${1//NUMBER/$i}"
    line="${line//IP/127.1.0.$i}"; line="${line//PORT/$backend_port}"
    echo "${line//ADDRESS/127.1.0.$i:$backend_port}"
  done
}

start_backends() { # in several processes, for no process may have descriptors for both sides of everything
  local each=20 first
  for first in $(seq 1 "$each" "$backends"); do
    started "backends$first" "$load" backend first="127.1.0.$first:$backend_port" addresses="$((backends - first + 1 < each ? backends - first + 1 : each))"
  done
}

machine() {
  local cpu memory
  cpu="$(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)"
  memory="$(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)"
  echo "$(nproc) × ${cpu:-unknown CPU}, $memory, Linux $(uname -r)"
}
