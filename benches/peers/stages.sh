# What is measured. A stage that needs a proxy without a past starts it afresh; the others share one.

# Sessions at the first look and at the second. A process may open 20,000 files here, and a proxied session takes two.
few=500 more=9000
# Gateway processes of the stage `large`: 11 × 9,500 sessions.
gateways=11

result() { echo "$1 $2 $3" >>"$work/results"; printf '  %-9s %-20s %s\n' "$1" "$2" "$3" >&2; }

# measured CONTENDER PREFIX LOAD-COMMAND…: runs a load; its lines `NAME VALUE` become results. $renamed: NAME=METRIC words; others get the prefix.
measured() {
  local contender="$1" prefix="$2" answer name value metric; shift 2
  answer="$(timeout $((seconds + 120)) "$load" "$@")" || die "$contender: $1 failed"
  while read -r name value; do
    metric="$prefix"
    case "$name" in
      rate | mb_per_s) ;;
      cpu_us) metric="${prefix}_cpu" ;;
      p50_us) metric="${prefix}_p50" ;;
      p99_us) metric="${prefix}_p99" ;;
      *) continue ;;
    esac
    [[ " $metrics " != *" $metric "* ]] || result "$contender" "$metric" "$value"
  done <<<"$answer"
}
# What the table has room for.
metrics="handshakes handshakes_cpu tls_handshakes tls_handshakes_cpu roundtrips_100 roundtrips_100_cpu roundtrips_100_p99
  roundtrips_1000 roundtrips_1000_cpu roundtrips_1000_p99 paced_p50 paced_p99 paced_cpu bulk_64k bulk_1m flood_p50 flood_p99 calm_p99"
metrics="${metrics//$'\n'/ }"

# memory_of CONTENDER METRIC PROCESSES FIRST-PORT LOAD-OPTION…: growth of user memory a session from few to more sessions a process.
memory_of() {
  local contender="$1" metric="$2" count="$3" port="$4" n before after held=(); shift 4
  start "$contender" "$count"
  for n in $(seq 0 $((count - 1))); do
    started "few$n" "$load" hold target="127.0.0.1:$((port + n))" sessions="$few" "$@"; held+=("$pipe" "$started")
  done
  sleep 2
  before="$(pss)"
  for n in $(seq 0 $((count - 1))); do
    started "more$n" "$load" hold target="127.0.0.1:$((port + n))" sessions="$more" "$@"; held+=("$pipe" "$started")
  done
  # Buffers of the handshakes go back first.
  sleep 3
  after="$(pss)"
  result "$contender" "$metric" $(((after - before) / (more * count)))
  ended "${held[@]}"
  stop_proxies
}

tls_speaks() { [ "$1" != holdline ] || [ "$have_tls" = yes ]; }

stage_memory() { memory_of "$1" memory 1 "$proxy_port"; }
stage_large() { memory_of "$1" memory_large "$gateways" "$proxy_port"; }
stage_sse() { memory_of "$1" memory_sse 1 "$proxy_port" kind=sse; }
stage_tls_memory() { memory_of "$1" memory_tls 1 "$tls_port" ca="$work/tls.crt"; }

stage_handshakes() {
  measured "$1" handshakes handshakes target="$plain" seconds="$seconds" concurrency=64 pids="$(proxy_pids)"
}

stage_tls_handshakes() {
  measured "$1" tls_handshakes handshakes target="127.0.0.1:$tls_port" ca="$work/tls.crt" seconds="$seconds" concurrency=64 pids="$(proxy_pids)"
}

stage_roundtrips() {
  local connections
  for connections in 100 1000; do
    measured "$1" "roundtrips_$connections" roundtrips target="$plain" seconds="$seconds" connections="$connections" pids="$(proxy_pids)"
  done
}

stage_paced() {
  measured "$1" paced paced target="$plain" seconds="$seconds" connections=100 rate=10000 pids="$(proxy_pids)"
}

stage_bulk() {
  measured "$1" bulk_64k bulk target="$plain" seconds="$seconds" connections=16 size=65536
  measured "$1" bulk_1m bulk target="$plain" seconds="$seconds" connections=4 size=1048576
}

# 100 sessions with 500 messages a second, alone and while handshakes come at half of what this contender takes at the most.
stage_flood() {
  local most flood flood_id answer
  most="$("$load" handshakes target="$plain" seconds=2 concurrency=64)" || die "$1: handshakes failed"
  most="$(awk '$1 == "rate" { print $2 }' <<<"$most")"
  measured "$1" calm paced target="$plain" seconds="$seconds" connections=100 rate=500
  started flood "$load" flood target="$plain" seconds=$((seconds + 2)) rate=$((most / 2)); flood="$pipe" flood_id="$started"
  measured "$1" flood paced target="$plain" seconds="$seconds" connections=100 rate=500
  ended "$flood" "$flood_id"
  answer="$(cat "$work/flood.out")"
  result "$1" flood_rate "$(awk '$1 == "rate" { print $2 }' <<<"$answer")"
  result "$1" flood_left_out "$(awk '$1 == "left_out" { print $2 }' <<<"$answer")"
}

# contend CONTENDER: all chosen stages on it, once.
contend() {
  local contender="$1" stage shared=no plain="127.0.0.1:$proxy_port"
  for stage in $stages; do
    case "$stage" in
      tls_*) tls_speaks "$contender" || { note "$stage of Holdline is left out: this build has no listeners[].tls"; continue; } ;;
    esac
    case "$stage" in
      memory | large | sse | tls_memory)
        [ "$shared" = no ] || { stop_proxies; shared=no; } ;;
      *)
        [ "$shared" = yes ] || { start "$contender" 1; shared=yes; } ;;
    esac
    "stage_$stage" "$contender"
  done
  stop_proxies
}
