{{- define "cistern.name" -}}
{{- $name := .Values.fullnameOverride | default (contains "cistern" .Release.Name | ternary .Release.Name (printf "%s-cistern" .Release.Name)) -}}
{{- $name | trunc 44 | trimSuffix "-" -}}
{{- end -}}

{{/* What a selector goes by: takes a list of the root context and the component. */}}
{{- define "cistern.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: cistern
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "cistern.labels" -}}
{{- $root := index . 0 -}}
{{ include "cistern.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Takes an image's values and the tag that counts where they have none. */}}
{{- define "cistern.image" -}}
{{- $image := index . 0 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (index . 1) }}
{{- end -}}
{{- end -}}

{{- define "cistern.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "cistern.name" .) "default") -}}
{{- end -}}

{{/* `true` where several replicas may use the storage. */}}
{{- define "cistern.shared" -}}
{{- $storage := .Values.storage -}}
{{- if or (eq $storage.type "s3") (and (eq $storage.type "volume") (eq $storage.volume.accessMode "ReadWriteMany")) -}}
true
{{- end -}}
{{- end -}}

{{/* The most replicas that there can be. */}}
{{- define "cistern.replicas" -}}
{{- .Values.autoscaling.enabled | ternary .Values.autoscaling.maxReplicas .Values.replicas -}}
{{- end -}}

{{/* Seconds of a duration as Go writes it, rounded up: takes the duration and the key that has it. */}}
{{- define "cistern.seconds" -}}
{{- $given := index . 0 | toString -}}
{{- if not (regexMatch "^([0-9]+(\\.[0-9]+)?(ms|s|m|h))+$" $given) -}}
{{- fail (printf "%s: got %q, wanted a duration such as 30s" (index . 1) $given) -}}
{{- end -}}
{{- $start := toDate "2006-01-02" "2000-01-01" -}}
{{- sub (dateModify $given $start | unixEpoch) (unixEpoch $start) | add 1 -}}
{{- end -}}

{{/* GiB of a quantity in Gi or Ti. */}}
{{- define "cistern.gib" -}}
{{- $number := regexFind "^[0-9]+" . | int -}}
{{- hasSuffix "Ti" . | ternary (mul $number 1024) $number -}}
{{- end -}}

{{/* A list of the hosts that images are named by. */}}
{{- define "cistern.upstreams" -}}
{{- $proxy := dig "proxy" (dict) .Values.config -}}
{{- $hosts := empty $proxy.remoteurl | ternary (list) (list ($proxy.host | default "docker.io")) -}}
{{- range $proxy.upstreams -}}
{{- $hosts = append $hosts .host -}}
{{- end -}}
{{- toYaml $hosts -}}
{{- end -}}

{{- define "cistern.redisName" -}}
{{ include "cistern.name" . }}-redis
{{- end -}}

{{/* `true` where Kubernetes' API is asked with the Pod's own account. */}}
{{- define "cistern.asksKubernetes" -}}
{{- $config := include "cistern.config" . | fromYaml -}}
{{- if and (not (dig "cluster" "kubeconfig" "" $config)) (or (dig "proxy" "pullsecrets" (list) $config) (dig "scheduler" "inuse" "kubernetes" "enabled" false $config)) -}}
true
{{- end -}}
{{- end -}}
