{{/* Secrets that are mounted: their names under /run/secrets, and what they are called. */}}
{{- define "cistern.secrets" -}}
{{- $secrets := deepCopy .Values.secrets -}}
{{- range $name, $secret := dict
  "s3" (eq .Values.storage.type "s3" | ternary .Values.storage.s3.existingSecret "")
  "redis" (eq .Values.redis.type "none" | ternary "" .Values.redis.existingSecret)
  "cluster" .Values.clusterSecret.existingSecret
  "tls" .Values.tls.existingSecret
  "htpasswd" .Values.auth.htpasswd.existingSecret
  "docker" .Values.dockerConfigJson.existingSecret
-}}
{{- if $secret -}}
{{- $_ := set $secrets $name $secret -}}
{{- end -}}
{{- end -}}
{{- toYaml $secrets -}}
{{- end -}}

{{/* How the kubelet asks: the debug port where the public one wants certificates of clients. */}}
{{- define "cistern.probe" -}}
{{- $root := index . 0 -}}
{{- $tls := dig "http" "tls" (dict) (include "cistern.config" $root | fromYaml) -}}
httpGet:
  path: {{ index . 1 }}
  {{- if $tls.clientcas }}
  port: debug
  {{- else }}
  port: http
  {{- if $tls.certificate }}
  scheme: HTTPS
  {{- end }}
  {{- end }}
{{- end -}}

{{/* Above the time that draining may take. */}}
{{- define "cistern.grace" -}}
{{- $config := include "cistern.config" . | fromYaml -}}
{{- $delay := dig "http" "draindelay" "20s" $config -}}
{{- $timeout := dig "http" "draintimeout" "60s" $config -}}
{{- add (include "cistern.seconds" (list $delay "config.http.draindelay")) (include "cistern.seconds" (list $timeout "config.http.draintimeout")) 10 -}}
{{- end -}}

{{- define "cistern.affinity" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- if eq (index . 2) "hard" -}}
podAntiAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    - topologyKey: kubernetes.io/hostname
      labelSelector:
        matchLabels:
          {{- include "cistern.selector" (list $root $component) | nindent 10 }}
{{- else -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "cistern.selector" (list $root $component) | nindent 12 }}
{{- end -}}
{{- end -}}

{{- define "cistern.volumes" -}}
- name: config
  configMap:
    name: {{ include "cistern.name" . }}
- name: tmp
  emptyDir: {}
{{- with .Values.storage }}
{{- if eq .type "volume" }}
- name: storage
  persistentVolumeClaim:
    claimName: {{ .volume.existingClaim | default (include "cistern.name" $) }}
{{- else if eq .type "emptyDir" }}
- name: storage
  emptyDir:
    sizeLimit: {{ .emptyDir.size }}
{{- end }}
{{- if include "cistern.shared" $ }}
- name: spool
  {{- if .spool.storageClass }}
  ephemeral:
    volumeClaimTemplate:
      spec:
        accessModes: [ReadWriteOnce]
        storageClassName: {{ .spool.storageClass }}
        resources:
          requests:
            storage: {{ .spool.size }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ .spool.size }}
  {{- end }}
{{- end }}
{{- end }}
{{- range $name, $secret := include "cistern.secrets" . | fromYaml }}
- name: secret-{{ $name }}
  secret:
    secretName: {{ $secret }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "cistern.volumeMounts" -}}
- name: config
  mountPath: /etc/docker/registry
  readOnly: true
- name: tmp
  mountPath: /tmp
{{- with .Values.storage }}
{{- if ne .type "s3" }}
- name: storage
  mountPath: /var/lib/registry
  {{- if and (eq .type "volume") .volume.subPath }}
  subPath: {{ .volume.subPath }}
  {{- end }}
{{- end }}
{{- if include "cistern.shared" $ }}
- name: spool
  mountPath: /var/lib/cistern
{{- end }}
{{- end }}
{{- range $name, $secret := include "cistern.secrets" . | fromYaml }}
- name: secret-{{ $name }}
  mountPath: /run/secrets/{{ $name }}
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}
