{{/*
A role and its binding to the service account. Takes a list: the root context, `Role` or `ClusterRole`, the namespace,
what it is about, its rule.
*/}}
{{- define "cistern.role" -}}
{{- $root := index . 0 -}}
{{- $kind := index . 1 -}}
{{- $namespace := index . 2 -}}
{{- $name := printf "%s-%s" (include "cistern.name" $root) (index . 3) -}}
{{- if eq $kind "ClusterRole" -}}
{{- $name = printf "%s-%s" $root.Release.Namespace $name -}}
{{- end }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}
metadata:
  name: {{ $name }}
  {{- with $namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "cistern.labels" (list $root "mirror") | nindent 4 }}
rules:
  - {{ index . 4 | toYaml | nindent 4 | trim }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}Binding
metadata:
  name: {{ $name }}
  {{- with $namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "cistern.labels" (list $root "mirror") | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $kind }}
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ include "cistern.serviceAccount" $root }}
    namespace: {{ $root.Release.Namespace }}
{{ end -}}
