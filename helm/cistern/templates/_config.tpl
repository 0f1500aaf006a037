{{/* config.yml: what the values say, and `config` laid over it. */}}
{{- define "cistern.config" -}}
{{- $config := dict
  "version" "0.1"
  "storage" (include "cistern.config.storage" . | fromYaml)
  "http" (include "cistern.config.http" . | fromYaml)
  "proxy" (include "cistern.config.proxy" . | fromYaml)
-}}
{{- with include "cistern.config.redis" . | fromYaml -}}
{{- $_ := set $config "redis" . -}}
{{- end -}}
{{- if .Values.clusterSecret.existingSecret -}}
{{- $_ := set $config "cluster" (dict "secretfile" (printf "/run/secrets/cluster/%s" .Values.clusterSecret.key)) -}}
{{- end -}}
{{- with .Values.auth.htpasswd -}}
{{- if .existingSecret -}}
{{- $_ := set $config "auth" (dict "htpasswd" (dict "realm" .realm "path" (printf "/run/secrets/htpasswd/%s" .key))) -}}
{{- end -}}
{{- end -}}
{{- mergeOverwrite $config (deepCopy .Values.config) | toYaml -}}
{{- end -}}

{{- define "cistern.config.storage" -}}
{{- with .Values.storage -}}
{{- if eq .type "s3" }}
s3:
  bucket: {{ .s3.bucket | quote }}
  region: {{ .s3.region | quote }}
  {{- with .s3.endpoint }}
  regionendpoint: {{ . | quote }}
  {{- end }}
  {{- with .s3.rootDirectory }}
  rootdirectory: {{ . | quote }}
  {{- end }}
  {{- if not .s3.redirect }}
  localcopies: {{ mul (include "cistern.gib" .spool.size) 205 }}MiB
  {{- end }}
  {{- if .s3.existingSecret }}
  accesskeyfile: /run/secrets/s3/{{ .s3.accessKeyName }}
  secretkeyfile: /run/secrets/s3/{{ .s3.secretKeyName }}
  {{- end }}
redirect:
  disable: {{ not .s3.redirect }}
{{- else }}
filesystem:
  rootdirectory: /var/lib/registry
{{- end }}
{{- end }}
cache:
  blobdescriptor: {{ eq .Values.redis.type "none" | ternary "inmemory" "redis" }}
delete:
  enabled: true
{{- end -}}

{{- define "cistern.config.http" -}}
addr: :5000
headers:
  X-Content-Type-Options: [nosniff]
debug:
  addr: :5001
  prometheus:
    enabled: true
{{- if .Values.tls.existingSecret }}
tls:
  certificate: /run/secrets/tls/tls.crt
  key: /run/secrets/tls/tls.key
{{- end }}
{{- end -}}

{{- define "cistern.config.proxy" -}}
{{- with .Values.storage -}}
{{- if eq .type "volume" }}
minfree: 5GiB
{{- else if eq .type "emptyDir" }}
{{- /* The node evicts a pod that takes more than the limit; what goes is only freed some time later. */}}
maxsize: {{ mul (include "cistern.gib" .emptyDir.size) 1024 | mulf 0.6 | int }}MiB
{{- end }}
spool:
  {{- if include "cistern.shared" $ }}
  directory: /var/lib/cistern/spool
  {{- /* The rest of nine tenths: copies of what goes through the mirror. */}}
  maxsize: {{ mul (include "cistern.gib" .spool.size) (and (eq .type "s3") (not .s3.redirect) | ternary 717 922) }}MiB
  {{- else if eq .type "emptyDir" }}
  maxsize: {{ mul (include "cistern.gib" .emptyDir.size) 1024 | mulf 0.3 | int }}MiB
  {{- else }}
  maxsize: {{ mul (include "cistern.gib" .spool.size) 1024 }}MiB
  {{- end }}
{{- end }}
{{- if .Values.dockerConfigJson.existingSecret }}
dockerconfigjson: /run/secrets/docker/.dockerconfigjson
{{- end }}
{{- end -}}

{{- define "cistern.config.redis" -}}
{{- with .Values.redis -}}
{{- if ne .type "none" -}}
{{- if eq .type "existing" -}}
addr: {{ .addr | quote }}
{{- else }}
mastername: {{ .masterName | quote }}
addrs:
  {{- if eq .type "sentinel" }}
  {{- toYaml .sentinels | nindent 2 }}
  {{- else }}
  {{- $name := include "cistern.redisName" $ }}
  {{- range $index := until (int .bundled.replicas) }}
  - {{ $name }}-{{ $index }}.{{ $name }}.{{ $.Release.Namespace }}.svc:26379
  {{- end }}
  {{- end }}
{{- end }}
{{- with .username }}
username: {{ . | quote }}
{{- end }}
{{- if .existingSecret }}
passwordfile: /run/secrets/redis/{{ .passwordKey }}
{{- if eq .type "bundled" }}
sentinelpasswordfile: /run/secrets/redis/{{ .passwordKey }}
{{- else if .sentinelPasswordKey }}
sentinelpasswordfile: /run/secrets/redis/{{ .sentinelPasswordKey }}
{{- end }}
{{- end }}
{{- end -}}
{{- end -}}
{{- end -}}
