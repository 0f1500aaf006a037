#!/bin/sh
# Starts a Redis or a Sentinel. Neither keeps anything beyond the pod: who is master is what the Sentinels say, and the
# first pod where none of them answers. All names are those of the headless service, so that a pod that comes back with
# another address is still the one that was known.
set -eu
umask 077
# A Sentinel does nothing else while it looks up a name. That of a server which is gone may be looked up outside, where
# nobody may answer.
export RES_OPTIONS='timeout:1 attempts:1'

name() { echo "$STATEFULSET-$1.$SERVICE"; }
self="$POD_NAME.$SERVICE"

password=''
if [ -n "${PASSWORD_FILE:-}" ]; then
  password=$(cat "$PASSWORD_FILE")
  export REDISCLI_AUTH="$password"
fi

find_master() {
  pod=0
  while [ "$pod" -lt "$REPLICAS" ]; do
    found=$(timeout 2 redis-cli -h "$(name "$pod")" -p 26379 sentinel get-master-addr-by-name "$MASTER" 2>/dev/null | head -n 1) || found=''
    case "$found" in
      *".$SERVICE") echo "$found"; return ;;
    esac
    pod=$((pod + 1))
  done
  name 0
}

# Whether another pod has a copy of what a master kept.
replica_has_content() {
  pod=0
  while [ "$pod" -lt "$REPLICAS" ]; do
    other=$(name "$pod")
    pod=$((pod + 1))
    [ "$other" != "$self" ] || continue
    keys=$(printf 'role\ndbsize\n' | timeout 2 redis-cli -h "$other" 2>/dev/null | sed -n '1{/^slave$/!q};6p')
    [ "${keys:-0}" -le 0 ] || return 0
  done
  return 1
}

redis() {
  master=$(find_master)
  # A master that comes back before it was missed is empty, and its replicas would copy that. So one of them becomes the
  # master first; Sentinels that cannot agree are not waited for.
  patience=$(($(date +%s) + 12))
  while [ "$master" = "$self" ] && replica_has_content && [ "$(date +%s)" -lt "$patience" ]; do
    sleep 1
    master=$(find_master)
  done
  {
    echo "port 6379"
    echo "dir /tmp"
    echo "protected-mode no"
    echo 'save ""'
    echo "appendonly no"
    echo "maxmemory $MAX_MEMORY"
    echo "maxmemory-policy allkeys-lru"
    echo "tcp-keepalive 300"
    echo "repl-diskless-load on-empty-db"
    echo "replica-announce-ip $self"
    [ "$master" = "$self" ] || echo "replicaof $master 6379"
    [ -z "$password" ] || printf 'requirepass "%s"\nmasterauth "%s"\n' "$password" "$password"
  } >/run/redis/redis.conf
  exec redis-server /run/redis/redis.conf --bind "$POD_IP"
}

sentinel() {
  # After a restart of the container alone it goes on with what it knows.
  if [ ! -s /run/redis/sentinel.conf ]; then
    master=$(find_master)
    until getent hosts "$master" >/dev/null; do
      sleep 1
      master=$(find_master)
    done
    {
      echo "port 26379"
      echo "dir /tmp"
      echo "protected-mode no"
      echo "sentinel resolve-hostnames yes"
      echo "sentinel announce-hostnames yes"
      echo "sentinel announce-ip $self"
      echo "sentinel monitor $MASTER $master 6379 $((REPLICAS / 2 + 1))"
      echo "sentinel down-after-milliseconds $MASTER 5000"
      echo "sentinel failover-timeout $MASTER 10000"
      echo "sentinel parallel-syncs $MASTER $REPLICAS"
      [ -z "$password" ] || printf 'requirepass "%s"\nsentinel sentinel-pass "%s"\nsentinel auth-pass %s "%s"\n' "$password" "$password" "$MASTER" "$password"
    } >/run/redis/sentinel.conf
  fi
  exec redis-server /run/redis/sentinel.conf --sentinel --bind "$POD_IP"
}

"$1"
