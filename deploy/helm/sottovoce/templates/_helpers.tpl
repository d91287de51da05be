{{/* Who a document belongs to: (dict "root" $ "part" NAME). */}}
{{- define "sottovoce.selector" -}}
app.kubernetes.io/name: sottovoce
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "sottovoce.labels" -}}
{{ include "sottovoce.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{/* What every pod has: no account of the cluster's, no names of services in its environment, no root. */}}
{{- define "sottovoce.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "sottovoce.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ int64 . }}
runAsGroup: {{ int64 . }}
fsGroup: {{ int64 . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "sottovoce.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* The container of a service: (dict "root" $ "role" ROLE "resources" RESOURCES). */}}
{{- define "sottovoce.service" -}}
name: {{ .role }}
image: {{ .root.Values.images.services }}
command: [sottovoce, serve, {{ .role }}, --config, /etc/sottovoce/{{ .role }}.toml, --listen, "0.0.0.0:8080"]
ports:
  - name: http
    containerPort: 8080
startupProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 2
  failureThreshold: 60
readinessProbe:
  httpGet: {path: /healthz, port: http}
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 20
  failureThreshold: 6
securityContext:
  {{- include "sottovoce.containerSecurity" . | nindent 2 }}
resources:
  {{- toYaml .resources | nindent 2 }}
{{- end }}

{{/* Replicas on different nodes, where there are some. */}}
{{- define "sottovoce.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "sottovoce.selector" . | nindent 8 }}
{{- end }}

{{/* A rule of a NetworkPolicy for names. */}}
{{- define "sottovoce.dns" -}}
- to:
    {{- toYaml .Values.network.dns | nindent 4 }}
  ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end }}

{{/* Pods of another part: (dict "root" $ "part" NAME). */}}
{{- define "sottovoce.peer" -}}
podSelector:
  matchLabels:
    {{- include "sottovoce.selector" . | nindent 4 }}
{{- end }}
