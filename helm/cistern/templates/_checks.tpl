{{/* What several values must be together; the schema says what each must be by itself. All faults at once. */}}
{{- define "cistern.checks" -}}
{{- $faults := list -}}
{{- $values := .Values -}}
{{- $storage := $values.storage -}}
{{- $several := gt (include "cistern.replicas" . | int) 1 -}}
{{- if and $several (not (include "cistern.shared" .)) -}}
{{- $what := eq $storage.type "volume" | ternary "storage.volume.accessMode: ReadWriteOnce" "storage.type: emptyDir" -}}
{{- $faults = append $faults (printf "several replicas with %s: they need a storage that they share, storage.type: s3 or storage.volume.accessMode: ReadWriteMany" $what) -}}
{{- end -}}
{{- if and $values.autoscaling.enabled (gt (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas)) -}}
{{- $faults = append $faults "autoscaling.minReplicas: more than maxReplicas" -}}
{{- end -}}
{{- if and (eq $storage.type "s3") (not $storage.s3.bucket) -}}
{{- $faults = append $faults "storage.s3.bucket: needed with storage.type: s3" -}}
{{- end -}}
{{- if and (eq $values.redis.type "existing") (not $values.redis.addr) -}}
{{- $faults = append $faults "redis.addr: needed with redis.type: existing, HOST:PORT" -}}
{{- end -}}
{{- if and (eq $values.redis.type "sentinel") (not $values.redis.sentinels) -}}
{{- $faults = append $faults "redis.sentinels: needed with redis.type: sentinel, a list of HOST:PORT" -}}
{{- end -}}
{{- if and (eq $values.redis.type "bundled") $values.redis.username -}}
{{- $faults = append $faults "redis.username: the bundled Redis has no users, leave it out" -}}
{{- end -}}
{{- if and $values.ingress.enabled (not $values.ingress.hosts) -}}
{{- $faults = append $faults "ingress.hosts: needed with ingress.enabled, the names of this mirror" -}}
{{- end -}}
{{- if and $values.httpRoute.enabled (not $values.httpRoute.parentRefs) -}}
{{- $faults = append $faults "httpRoute.parentRefs: needed with httpRoute.enabled, the Gateways that the route is for" -}}
{{- end -}}
{{- if and $values.nodes.enabled (not $values.nodes.mirror) -}}
{{- $faults = append $faults "nodes.mirror: needed with nodes.enabled, such as https://mirror.example.com" -}}
{{- end -}}
{{- range $name := list "s3" "redis" "cluster" "tls" "htpasswd" "docker" -}}
{{- if hasKey $values.secrets $name -}}
{{- $faults = append $faults (printf "secrets.%s: the chart uses this name itself, take another one" $name) -}}
{{- end -}}
{{- end -}}
{{- range $key, $image := dict "image" $values.image "redis.bundled.image" $values.redis.bundled.image -}}
{{- if and (eq $key "redis.bundled.image") (not (or $image.tag $image.digest)) -}}
{{- $faults = append $faults (printf "%s.tag: needed, or a digest" $key) -}}
{{- end -}}
{{- if eq $image.tag "latest" -}}
{{- $faults = append $faults (printf "%s.tag: latest is another image every day, name a version" $key) -}}
{{- end -}}
{{- end -}}
{{- with include "cistern.checks.config" . -}}
{{- $faults = concat $faults (splitList "\n" (trim .)) -}}
{{- end -}}
{{- if $faults -}}
{{- fail (printf "\n\n  %s\n" (join "\n  " $faults)) -}}
{{- end -}}
{{- end -}}

{{/* Faults of `config`, one on each line: what the chart itself decides, and secrets, which anybody could read in a ConfigMap. */}}
{{- define "cistern.checks.config" -}}
{{- $config := .Values.config -}}
{{- $driver := eq .Values.storage.type "s3" | ternary "filesystem" "s3" -}}
{{- if hasKey (dig "storage" (dict) $config) $driver -}}
{{ printf "config.storage.%s: two kinds of storage, set storage.type instead\n" $driver }}
{{- end -}}
{{- range $path, $instead := dict "http.addr" "service.port" "http.net" "service" "http.debug.addr" "metrics" "cluster.addr" "networkPolicy" "storage.filesystem.rootdirectory" "storage.volume" -}}
{{- if include "cistern.checks.at" (list $config $path) -}}
{{ printf "config.%s: the chart decides it, see %s\n" $path $instead }}
{{- end -}}
{{- end -}}
{{- range $path, $instead := dict "http.secret" "leave it out, it has no meaning here" "redis.password" "redis.existingSecret" "redis.sentinelpassword" "redis.existingSecret" "storage.s3.accesskey" "storage.s3.existingSecret" "storage.s3.secretkey" "storage.s3.existingSecret" "storage.s3.sessiontoken" "secrets and sessiontokenfile" "cluster.secret" "clusterSecret.existingSecret" "proxy.password" "secrets and passwordfile" -}}
{{- if include "cistern.checks.at" (list $config $path) -}}
{{ printf "config.%s: a secret does not belong into a ConfigMap, use %s\n" $path $instead }}
{{- end -}}
{{- end -}}
{{- range $index, $upstream := dig "proxy" "upstreams" (list) $config -}}
{{- if hasKey $upstream "password" -}}
{{ printf "config.proxy.upstreams[%d].password: a secret does not belong into a ConfigMap, use secrets and passwordfile\n" $index }}
{{- end -}}
{{- range $further := dig "credentials" (list) $upstream -}}
{{- if hasKey $further "password" -}}
{{ printf "config.proxy.upstreams[%d].credentials: a secret does not belong into a ConfigMap, use secrets and passwordfile\n" $index }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $further := dig "proxy" "credentials" (list) $config -}}
{{- if hasKey $further "password" -}}
{{ printf "config.proxy.credentials: a secret does not belong into a ConfigMap, use secrets and passwordfile\n" }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Not empty where a path, its keys joined by dots, leads to something: takes a list of the map and the path. */}}
{{- define "cistern.checks.at" -}}
{{- $place := index . 0 -}}
{{- range $key := splitList "." (index . 1) -}}
{{- $place = kindIs "map" $place | ternary (get (kindIs "map" $place | ternary $place (dict)) $key) "" -}}
{{- end -}}
{{- if $place -}}true{{- end -}}
{{- end -}}
