{{- define "mazevault.fullname" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* Of `dict "context" $ "component" NAME`. */}}
{{- define "mazevault.selectorLabels" -}}
app.kubernetes.io/name: mazevault
app.kubernetes.io/instance: {{ .context.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "mazevault.labels" -}}
{{ include "mazevault.selectorLabels" . }}
app.kubernetes.io/version: {{ .context.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .context.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .context.Chart.Name .context.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Name of an image, of `dict "image" VALUES "tag" DEFAULT`. */}}
{{- define "mazevault.image" -}}
{{- $name := .image.repository -}}
{{- with .image.registry }}{{ $name = printf "%s/%s" . $name }}{{ end -}}
{{- if .image.digest }}{{ $name }}@{{ .image.digest }}{{ else }}{{ $name }}:{{ default .tag .image.tag }}{{ end -}}
{{- end -}}

{{/* What runs side by side, as JSON: in which mode it is, and whether OCSP is a Deployment of its own. */}}
{{- define "mazevault.components" -}}
{{- $components := list "gateway" -}}
{{- if eq .Values.mode "primary" -}}
{{- $components = list "operator" "rest" -}}
{{- if eq .Values.ocsp.mode "Deployment" }}{{ $components = append $components "ocsp" }}{{ end -}}
{{- end -}}
{{- toJson $components -}}
{{- end -}}

{{/* Name of the objects of a component, of `dict "context" $ "component" NAME`: a gateway is one program, so it has the release's. */}}
{{- define "mazevault.name" -}}
{{- include "mazevault.fullname" .context }}{{ if ne .component "gateway" }}-{{ .component }}{{ end -}}
{{- end -}}

{{/* Component whose pods answer OCSP. */}}
{{- define "mazevault.ocspPods" -}}
{{- if eq .Values.ocsp.mode "Sidecar" }}rest{{ else }}ocsp{{ end -}}
{{- end -}}

{{- define "mazevault.hasOcsp" -}}
{{- if and (eq .Values.mode "primary") (ne .Values.ocsp.mode "Off") }}true{{ end -}}
{{- end -}}

{{/* Whether a variable is set by hand, of `dict "context" $ "names" LIST`: "true" or nothing. */}}
{{- define "mazevault.inEnv" -}}
{{- $names := .names -}}
{{- range .context.Values.env }}{{ if has .name $names }}true{{ end }}{{ end -}}
{{- end -}}

{{/* The same, or by the Key Vault. */}}
{{- define "mazevault.given" -}}
{{- $names := .names -}}
{{- include "mazevault.inEnv" . -}}
{{- range $name, $_ := .context.Values.secretProviderClass.env }}{{ if has $name $names }}true{{ end }}{{ end -}}
{{- end -}}

{{- define "mazevault.databaseHost" -}}
{{- if .Values.postgresql.enabled }}{{ include "mazevault.fullname" . }}-postgresql{{ else }}{{ .Values.database.host }}{{ end -}}
{{- end -}}

{{/* Port of a URL, of `dict "url" URL "default" PORT`. */}}
{{- define "mazevault.portOf" -}}
{{- $host := (urlParse .url).host -}}
{{- if regexMatch ":[0-9]+$" $host }}{{ regexFind "[0-9]+$" $host }}{{ else }}{{ .default }}{{ end -}}
{{- end -}}

{{- define "mazevault.checksum" -}}
{{- include (print $.context.Template.BasePath "/" .file) .context | sha256sum -}}
{{- end -}}
