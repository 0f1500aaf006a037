#!/bin/sh
# Starts a server of the stack: `redis NAME` or `sentinel NAME`. None keeps anything: whoever starts asks the others who
# is master. All know each other by name, so one that comes back with another address is still the same.
set -eu
umask 077
# A Sentinel does nothing else while it looks up a name. That of a server which is gone may be looked up outside, where
# nobody may answer.
export RES_OPTIONS='timeout:1 attempts:1'
role=$1
self=$2
password=$(cat /run/secrets/redis_password)
export REDISCLI_AUTH="$password"

# By the word of any Sentinel; where all are new, of the servers themselves; else the first.
find_master() {
  for sentinel in sentinel-1 sentinel-2 sentinel-3; do
    [ "$sentinel" != "$self" ] || continue
    found=$(timeout 2 redis-cli -h "$sentinel" -p 26379 sentinel get-master-addr-by-name mymaster 2>/dev/null | head -n 1)
    case "$found" in redis-[12])
      echo "$found"
      return
      ;;
    esac
  done
  for server in redis-1 redis-2; do
    [ "$server" != "$self" ] || continue
    if [ "$(timeout 2 redis-cli -h "$server" role 2>/dev/null | head -n 1)" = master ]; then
      echo "$server"
      return
    fi
  done
  echo redis-1
}

both() {
  echo 'dir /tmp'
  echo 'protected-mode no'
  echo "requirepass \"$password\""
}

# Whether the other server has a copy of what a master kept.
replica_has_content() {
  other=redis-1
  [ "$self" != redis-1 ] || other=redis-2
  keys=$(printf 'role\ndbsize\n' | timeout 2 redis-cli -h "$other" 2>/dev/null | sed -n '1{/^slave$/!q};6p')
  [ "${keys:-0}" -gt 0 ]
}

redis() {
  master=$(find_master)
  # A master that comes back before it was missed is empty, and its replica would copy that. So the replica becomes the
  # master first; Sentinels that cannot agree are not waited for.
  patience=$(($(date +%s) + 8))
  while [ "$master" = "$self" ] && replica_has_content && [ "$(date +%s)" -lt "$patience" ]; do
    sleep 1
    master=$(find_master)
  done
  {
    both
    echo 'port 6379'
    echo "masterauth \"$password\""
    echo "replica-announce-ip $self"
    echo 'save ""'
    echo 'appendonly no'
    echo 'maxmemory 256mb'
    echo 'maxmemory-policy allkeys-lru'
    echo 'tcp-keepalive 300'
    echo 'repl-diskless-sync-delay 0'
    if [ "$master" != "$self" ]; then echo "replicaof $master 6379"; fi
  } >/tmp/redis.conf
  exec redis-server /tmp/redis.conf
}

sentinel() {
  master=$(find_master)
  until getent hosts "$master" >/dev/null; do
    sleep 1
    master=$(find_master)
  done
  {
    both
    echo 'port 26379'
    echo 'sentinel resolve-hostnames yes'
    echo 'sentinel announce-hostnames yes'
    echo "sentinel announce-ip $self"
    # With a new id after each start the others would count the dead ones too, and find no majority in the end.
    echo "sentinel myid $(printf '%s' "$self" | sha1sum | cut -c 1-40)"
    echo "sentinel sentinel-pass \"$password\""
    echo "sentinel monitor mymaster $master 6379 2"
    echo "sentinel auth-pass mymaster \"$password\""
    echo 'sentinel down-after-milliseconds mymaster 3000'
    echo 'sentinel failover-timeout mymaster 10000'
  } >/tmp/sentinel.conf
  exec redis-server /tmp/sentinel.conf --sentinel
}

"$role"
